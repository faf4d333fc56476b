#include "reward_server/scoring/composition.h"

namespace rollcall {

ScoreResult ComposeReward(std::span<const Component> components) {
  if (components.empty()) return ScoreResult::DataFailure("no_scorers", "the job has no scorers");
  const Component* failed = nullptr;
  double reward = 0;
  for (const Component& component : components) {
    if (component.result.ok()) {
      reward += component.weight * component.result.value();
    } else if (failed == nullptr || (failed->result.is_infrastructure_failure() &&
                                     !component.result.is_infrastructure_failure())) {
      failed = &component;
    }
  }
  if (failed == nullptr) return ScoreResult::Value(reward);
  ScoreFailure failure = failed->result.failure();
  failure.message = "scorer '" + failed->name + "': " + failure.message;
  return ScoreResult::Failure(std::move(failure));
}

}  // namespace rollcall
