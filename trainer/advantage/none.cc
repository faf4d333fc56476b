#include "trainer/advantage/none.h"

#include <algorithm>

namespace rollcall {

AdvantageResult NoAdvantages(const AdvantageOptions&, const AdvantageInput& input) {
  AdvantageResult result;
  const size_t num_sequences = input.groups_S.size();
  result.keep_S.assign(num_sequences, 1);
  result.advantages_T.assign(input.token_starts.back(), 0.0);
  for (size_t s = 0; s < num_sequences; ++s) {
    if (input.has_reward_S[s] == 0) continue;
    std::fill(result.advantages_T.begin() + input.token_starts[s],
              result.advantages_T.begin() + input.token_starts[s + 1], input.rewards_S[s]);
  }
  return result;
}

}  // namespace rollcall
