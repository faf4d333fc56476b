#include "trainer/pairs/as_given.h"

namespace rollcall {

PairSet BuildPairsAsGiven(const TrainGroup& group) {
  PairSet set;
  int64_t chosen = -1;
  for (size_t i = 0; i < group.sequences.size(); ++i) {
    if (group.sequences[i].preference_rank == 0) chosen = static_cast<int64_t>(i);
  }
  bool any = false;
  for (size_t i = 0; chosen >= 0 && i < group.sequences.size(); ++i) {
    if (group.sequences[i].preference_rank <= 0) continue;
    any = true;
    AddPair(group, {chosen, static_cast<int64_t>(i)}, &set);
  }
  if (!any) ++set.unpaired;
  return set;
}

}  // namespace rollcall
