#include "reward_server/verifier/char_accuracy.h"

#include <algorithm>
#include <vector>

#include "reward_server/verifier/answer_text.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

class CharAccuracy final : public Scorer {
 public:
  explicit CharAccuracy(const ScorerOptions& options)
      : by_byte_(options.GetText("unit") == "byte"),
        length_penalty_(options.GetBool("length_penalty")),
        strip_(options.GetBool("strip")),
        case_sensitive_(options.GetBool("case_sensitive")) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    const std::vector<char32_t> answer = Units(*input.answer);
    if (answer.empty()) {
      return ScoreResult::DataFailure("bad_ground_truth", "the answer is empty");
    }
    const std::vector<char32_t> completion = Units(input.completion);
    const size_t common = std::min(answer.size(), completion.size());
    size_t num_matches = 0;
    for (size_t i = 0; i < common; ++i) num_matches += answer[i] == completion[i] ? 1 : 0;
    const size_t length =
        length_penalty_ ? std::max(answer.size(), completion.size()) : answer.size();
    return ScoreResult::Value(static_cast<double>(num_matches) / static_cast<double>(length));
  }

  ScorerReads reads() const override { return {.answer = true}; }

 private:
  std::vector<char32_t> Units(std::string_view text) const {
    if (strip_) text = StripWhiteSpace(text);
    const std::string folded = case_sensitive_ ? std::string(text) : LowerAscii(text);
    if (!by_byte_) return CodePoints(folded);
    std::vector<char32_t> bytes;
    bytes.reserve(folded.size());
    for (const char c : folded) bytes.push_back(static_cast<uint8_t>(c));
    return bytes;
  }

  const bool by_byte_;
  const bool length_penalty_;
  const bool strip_;
  const bool case_sensitive_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeCharAccuracy(const ScorerOptions& options) {
  return std::make_unique<const CharAccuracy>(options);
}

}  // namespace rollcall
