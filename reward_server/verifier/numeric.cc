#include "reward_server/verifier/numeric.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "reward_server/verifier/answer_text.h"

namespace rollcall {
namespace {

// A sign right after a word, a digit or a bracket is an operator: "7-3" holds 7 and 3.
constexpr std::string_view kNumber =
    R"((?:(?<![\w.)])[-+])?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)";

// Nothing when the number is too large for a double.
std::optional<double> ToDouble(std::string_view digits) {
  std::string plain(digits);
  std::erase(plain, ',');
  if (plain.starts_with('+')) plain.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (error == std::errc::result_out_of_range) {
    // from_chars does not say which way: a negative exponent means too small.
    const size_t exponent = plain.find_first_of("eE");
    const bool is_tiny =
        exponent == std::string::npos || plain.substr(exponent + 1).starts_with('-');
    return is_tiny ? std::optional<double>(0.0) : std::nullopt;
  }
  if (error != std::errc() || end != plain.data() + plain.size()) return std::nullopt;
  return std::isfinite(value) ? std::optional<double>(value) : std::nullopt;
}

class Numeric final : public Scorer {
 public:
  Numeric(const ScorerOptions& options, AnswerExtractor extractor, Regex number)
      : tolerance_(options.GetNumber("tolerance")),
        relative_tolerance_(options.GetNumber("relative_tolerance")),
        extractor_(std::move(extractor)),
        number_(std::move(number)) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    const std::string_view answer_text = StripWhiteSpace(*input.answer);
    const auto answer_match = TakeMatch(number_, Take::kFirst, answer_text);
    std::optional<double> answer;
    if (answer_match.ok() && answer_match->has_value() &&
        (*answer_match)->size() == answer_text.size()) {
      answer = ToDouble(**answer_match);
    }
    if (!answer.has_value()) {
      return ScoreResult::DataFailure(
          "bad_ground_truth",
          "the answer '" + std::string(answer_text.substr(0, 100)) + "' is not a number");
    }
    const auto extracted = extractor_.Extract(input.completion);
    if (!extracted.ok()) {
      return ScoreResult::DataFailure("match_limit", Message(extracted.status()));
    }
    if (!extracted->has_value()) return ScoreResult::Value(0);
    const auto match = TakeMatch(number_, extractor_.take(), **extracted);
    if (!match.ok()) return ScoreResult::DataFailure("match_limit", Message(match.status()));
    if (!match->has_value()) return ScoreResult::Value(0);
    const std::optional<double> value = ToDouble(**match);
    const bool is_right =
        value.has_value() &&
        std::abs(*value - *answer) <= tolerance_ + relative_tolerance_ * std::abs(*answer);
    return ScoreResult::Value(is_right ? 1 : 0);
  }

  ScorerReads reads() const override { return {.answer = true}; }

 private:
  const double tolerance_;
  const double relative_tolerance_;
  const AnswerExtractor extractor_;
  const Regex number_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeNumeric(const ScorerOptions& options) {
  ROLLCALL_ASSIGN_OR_RETURN(AnswerExtractor extractor, AnswerExtractor::Create(options));
  ROLLCALL_ASSIGN_OR_RETURN(Regex number, Regex::Compile(kNumber, {}));
  return std::make_unique<const Numeric>(options, std::move(extractor), std::move(number));
}

}  // namespace rollcall
