#include "reward_server/verifier/length.h"

#include <algorithm>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

enum class Unit { kToken, kCodePoint, kByte };

class Length final : public Scorer {
 public:
  Length(Unit unit, const ScorerOptions& options)
      : unit_(unit),
        min_(options.GetInteger("min")),
        max_(options.GetInteger("max")),
        falloff_(options.GetInteger("falloff")) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    const int64_t length = Measure(input);
    const int64_t distance = std::max({int64_t{0}, min_ - length, length - max_});
    const double score = 1.0 - static_cast<double>(distance) / static_cast<double>(falloff_ + 1);
    return ScoreResult::Value(std::max(0.0, score));
  }

  ScorerReads reads() const override { return {.token_ids = unit_ == Unit::kToken}; }

 private:
  int64_t Measure(const ScoreInput& input) const {
    switch (unit_) {
      case Unit::kToken:
        return static_cast<int64_t>(input.completion_token_ids.size());
      case Unit::kCodePoint:
        return static_cast<int64_t>(CodePoints(input.completion).size());
      case Unit::kByte:
        break;
    }
    return static_cast<int64_t>(input.completion.size());
  }

  const Unit unit_;
  const int64_t min_;
  const int64_t max_;
  const int64_t falloff_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeLength(const ScorerOptions& options) {
  const std::string& unit = options.GetText("unit");
  return std::make_unique<const Length>(unit == "token"        ? Unit::kToken
                                        : unit == "code_point" ? Unit::kCodePoint
                                                               : Unit::kByte,
                                        options);
}

}  // namespace rollcall
