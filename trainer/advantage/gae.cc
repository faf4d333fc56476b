#include "trainer/advantage/gae.h"

namespace rollcall {

AdvantageResult GaeAdvantages(const AdvantageOptions& options, const AdvantageInput& input) {
  AdvantageResult result;
  const int64_t num_tokens = input.token_starts.back();
  result.advantages_T.assign(num_tokens, 0.0);
  result.returns_T.assign(num_tokens, 0.0);
  result.keep_S.assign(input.has_reward_S.begin(), input.has_reward_S.end());
  for (size_t s = 0; s < input.groups_S.size(); ++s) {
    if (input.has_reward_S[s] == 0) continue;
    double next_value = input.bootstrap_S[s];
    double next_advantage = 0;
    for (int64_t t = input.token_starts[s + 1] - 1; t >= input.token_starts[s]; --t) {
      const double value = input.values_T[t];
      const double delta = input.token_rewards_T[t] + options.gamma * next_value - value;
      next_advantage = delta + options.gamma * options.lambda * next_advantage;
      next_value = value;
      result.advantages_T[t] = next_advantage;
      result.returns_T[t] = next_advantage + value;
    }
  }
  return result;
}

}  // namespace rollcall
