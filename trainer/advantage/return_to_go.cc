#include "trainer/advantage/return_to_go.h"

namespace rollcall {

AdvantageResult ReturnToGoAdvantages(const AdvantageOptions& options, const AdvantageInput& input) {
  AdvantageResult result;
  result.advantages_T.assign(input.token_starts.back(), 0.0);
  result.keep_S.assign(input.has_reward_S.begin(), input.has_reward_S.end());
  for (size_t s = 0; s < input.groups_S.size(); ++s) {
    if (input.has_reward_S[s] == 0) continue;
    double to_go = 0;
    for (int64_t t = input.token_starts[s + 1] - 1; t >= input.token_starts[s]; --t) {
      to_go = input.token_rewards_T[t] + options.gamma * to_go;
      result.advantages_T[t] = to_go;
    }
  }
  return result;
}

}  // namespace rollcall
