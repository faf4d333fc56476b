// Patterns of tokenizer.json are written for Oniguruma; this engine is PCRE2.
#pragma once

#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

// The same language as a PCRE2 pattern (UTF, UCP, multi-line anchors). Character classes (\s, \w,
// \d, \p{...} of a general category or a script) are rewritten to what Oniguruma puts in them:
// PCRE2's data is older. Refuses with kInvalidArgument what the two engines read differently:
// nested classes, &&, \h, \v, \b, other properties, and other escapes outside the known set.
StatusOr<std::string> TranslateOniguruma(std::string_view pattern);

}  // namespace rollcall
