#include "reward_server/verifier/regex_match.h"

#include <utility>

#include "services/common/text/regex.h"

namespace rollcall {
namespace {

class RegexMatch final : public Scorer {
 public:
  explicit RegexMatch(Regex regex) : regex_(std::move(regex)) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    RegexMatcher matcher(regex_);
    const StatusOr<bool> found = matcher.Find(input.completion, 0);
    if (!found.ok()) return ScoreResult::DataFailure("match_limit", Message(found.status()));
    return ScoreResult::Value(*found ? 1 : 0);
  }

  ScorerReads reads() const override { return {}; }

 private:
  const Regex regex_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeRegexMatch(const ScorerOptions& options) {
  RegexOptions regex_options;
  if (!options.GetBool("case_sensitive")) {
    regex_options.letter_case = RegexOptions::Case::kInsensitive;
  }
  if (options.GetText("match") == "full") regex_options.extent = RegexOptions::Extent::kFull;
  ROLLCALL_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(options.GetText("pattern"), regex_options));
  return std::make_unique<const RegexMatch>(std::move(regex));
}

}  // namespace rollcall
