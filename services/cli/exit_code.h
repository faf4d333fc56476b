// How the program ends, and what it says when it fails.
#pragma once

#include <string>

#include "services/base/status/status.h"

namespace rollcall {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;      // the command or the job failed
inline constexpr int kExitUsage = 2;        // wrong flags, job file, model directory or job id
inline constexpr int kExitUnreachable = 3;  // no answer from the coordinator

inline constexpr char kExitCodesHelp[] =
    "Exit codes: 0 success, 1 failure, 2 invalid input, 3 coordinator unreachable.";

int ExitCodeOf(const Status& status);

// "error: <first line>\n  <each further line>\n": what is wrong, then what would be right.
std::string ErrorText(const Status& status);

// "kInvalidArgument" as scripts see it: "INVALID_ARGUMENT".
std::string CodeName(const Status& status);

}  // namespace rollcall
