#include "trainer/advantage/group_baseline.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace rollcall {
namespace {

struct Group {
  std::vector<double> rewards;
  GroupStatistics statistics;
  bool equal = false;
};

void Summarize(Group* group) {
  const std::vector<double>& rewards = group->rewards;
  GroupStatistics& s = group->statistics;
  s.count = static_cast<int64_t>(rewards.size());
  for (const double r : rewards) s.mean += r;
  s.mean /= static_cast<double>(s.count);
  double squares = 0;
  for (const double r : rewards) squares += (r - s.mean) * (r - s.mean);
  if (s.count > 1) s.stddev = std::sqrt(squares / static_cast<double>(s.count - 1));
  const auto [low, high] = std::minmax_element(rewards.begin(), rewards.end());
  group->equal = *low == *high;
}

}  // namespace

AdvantageResult CompareWithinGroups(
    const AdvantageInput& input,
    const std::function<double(double, const GroupStatistics&)>& advantage) {
  const size_t num_sequences = input.groups_S.size();
  std::map<int64_t, Group> groups;
  for (size_t s = 0; s < num_sequences; ++s) {
    if (input.has_reward_S[s] != 0) groups[input.groups_S[s]].rewards.push_back(input.rewards_S[s]);
  }
  AdvantageResult result;
  for (auto& [id, group] : groups) {
    Summarize(&group);
    if (group.statistics.count == 1) {
      ++result.single_groups;
    } else if (group.equal) {
      ++result.equal_groups;
    }
  }
  result.advantages_T.assign(input.token_starts.back(), 0.0);
  result.keep_S.assign(num_sequences, 0);
  for (size_t s = 0; s < num_sequences; ++s) {
    if (input.has_reward_S[s] == 0) continue;
    const Group& group = groups[input.groups_S[s]];
    if (group.statistics.count < 2) continue;
    result.keep_S[s] = 1;
    if (group.equal) continue;
    std::fill(result.advantages_T.begin() + input.token_starts[s],
              result.advantages_T.begin() + input.token_starts[s + 1],
              advantage(input.rewards_S[s], group.statistics));
  }
  return result;
}

}  // namespace rollcall
