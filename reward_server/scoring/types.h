// What scorers read and what they answer.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rollcall {

enum class FailureKind {
  kInfrastructure,  // time-out, unreachable scorer: worth another try
  kData,            // no ground truth, refused input: another try gives the same
};

struct ScoreFailure {
  FailureKind kind = FailureKind::kData;
  std::string reason;   // fixed word for metrics
  std::string message;  // one sentence for people
};

// A finite value, or a typed failure; never a silent zero.
class ScoreResult {
 public:
  // A value that is not finite is the data failure "non_finite".
  static ScoreResult Value(double value) {
    if (!std::isfinite(value)) {
      return DataFailure("non_finite", "the score is " + std::to_string(value));
    }
    ScoreResult result;
    result.value_ = value;
    return result;
  }
  static ScoreResult DataFailure(std::string reason, std::string message) {
    return Failure({FailureKind::kData, std::move(reason), std::move(message)});
  }
  static ScoreResult InfrastructureFailure(std::string reason, std::string message) {
    return Failure({FailureKind::kInfrastructure, std::move(reason), std::move(message)});
  }
  static ScoreResult Failure(ScoreFailure failure) {
    ScoreResult result;
    result.has_value_ = false;
    result.failure_ = std::move(failure);
    return result;
  }

  bool ok() const { return has_value_; }
  bool is_infrastructure_failure() const {
    return !has_value_ && failure_.kind == FailureKind::kInfrastructure;
  }
  double value() const { return value_; }                   // when ok()
  const ScoreFailure& failure() const { return failure_; }  // when not

 private:
  ScoreResult() = default;
  bool has_value_ = true;
  double value_ = 0;
  ScoreFailure failure_;
};

// One completed trajectory as scorers see it. Texts are UTF-8.
struct ScoreInput {
  std::string prompt;
  std::string completion;
  // Ground truth of the row; absent when the row has none.
  std::optional<std::string> answer;
  std::string row_json;
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> completion_token_ids;
};

}  // namespace rollcall
