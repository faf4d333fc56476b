// Scripts of tests that compare with a reference library. The interpreter is $ROLLCALL_PYTHON.
#pragma once

#include <string>

namespace rollcall::testing {

// Whether `import MODULES` works, e.g. "torch, transformers"; if not, prints a line that ctest
// counts as skipped.
bool HasPython(const std::string& modules);

// Exit status of a script below the repository root; what it prints on stderr is shown on failure.
int RunPython(const std::string& script, const std::string& arguments);

}  // namespace rollcall::testing
