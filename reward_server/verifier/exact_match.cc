#include "reward_server/verifier/exact_match.h"

#include <utility>

#include "reward_server/verifier/answer_text.h"

namespace rollcall {
namespace {

class ExactMatch final : public Scorer {
 public:
  ExactMatch(const ScorerOptions& options, AnswerExtractor extractor)
      : strip_(options.GetBool("strip")),
        case_sensitive_(options.GetBool("case_sensitive")),
        extractor_(std::move(extractor)) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    const auto extracted = extractor_.Extract(input.completion);
    if (!extracted.ok()) {
      return ScoreResult::DataFailure("match_limit", Message(extracted.status()));
    }
    if (!extracted->has_value()) return ScoreResult::Value(0);
    return ScoreResult::Value(Normalized(**extracted) == Normalized(*input.answer) ? 1 : 0);
  }

  ScorerReads reads() const override { return {.answer = true}; }

 private:
  std::string Normalized(std::string_view text) const {
    if (strip_) text = StripWhiteSpace(text);
    return case_sensitive_ ? std::string(text) : LowerAscii(text);
  }

  const bool strip_;
  const bool case_sensitive_;
  const AnswerExtractor extractor_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeExactMatch(const ScorerOptions& options) {
  ROLLCALL_ASSIGN_OR_RETURN(AnswerExtractor extractor, AnswerExtractor::Create(options));
  return std::make_unique<const ExactMatch>(options, std::move(extractor));
}

}  // namespace rollcall
