// Patterns of tokenizer.json are written for Oniguruma; this engine is PCRE2.
#pragma once

#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

// The same language as a PCRE2 pattern (UTF, UCP, multi-line anchors). Rewrites \s and \w, whose
// character sets differ (U+180E, marks), and refuses with kInvalidArgument what the two engines
// read differently: nested classes, &&, \h, \v, \b and other escapes outside the known set.
StatusOr<std::string> TranslateOniguruma(std::string_view pattern);

}  // namespace rollcall
