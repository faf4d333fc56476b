// What verifiers share: stripping, case, and cutting the answer out of a completion.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"
#include "services/common/text/regex.h"

namespace rollcall {

// Without Unicode white space at both ends.
std::string_view StripWhiteSpace(std::string_view text);

// ASCII letters in lower case.
std::string LowerAscii(std::string_view text);

enum class Take { kFirst, kLast };

// The first or last match of a regex: its group 1 if it has groups, else all of it. Nothing when
// there is none. kResourceExhausted: the pattern costs too much on this text.
StatusOr<std::optional<std::string_view>> TakeMatch(const Regex& regex, Take take,
                                                    std::string_view text);

// The options `extract` and `take` of a scorer. Immutable and thread-safe.
class AnswerExtractor {
 public:
  static StatusOr<AnswerExtractor> Create(const ScorerOptions& options);
  // The whole text without an `extract` option; nothing when the regex has no match.
  StatusOr<std::optional<std::string_view>> Extract(std::string_view text) const;
  Take take() const { return take_; }

 private:
  AnswerExtractor() = default;
  std::optional<Regex> regex_;
  Take take_ = Take::kLast;
};

}  // namespace rollcall
