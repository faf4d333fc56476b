#include "trainer/pairs/best_worst.h"

namespace rollcall {

PairSet BuildBestWorstPair(const TrainGroup& group) {
  PairSet set;
  int64_t best = -1;
  int64_t worst = -1;
  int64_t scored = 0;
  const auto reward = [&](int64_t i) { return *group.sequences[i].reward; };
  for (int64_t i = 0; i < static_cast<int64_t>(group.sequences.size()); ++i) {
    if (!group.sequences[i].reward.has_value()) continue;
    ++scored;
    if (best < 0 || reward(i) > reward(best)) best = i;
    if (worst < 0 || reward(i) < reward(worst)) worst = i;
  }
  if (scored < 2) {
    ++set.unpaired;
  } else if (reward(best) == reward(worst)) {
    ++set.ties;
  } else {
    AddPair(group, {best, worst}, &set);
  }
  return set;
}

}  // namespace rollcall
