#include "trainer/advantage/group_mean.h"

#include "trainer/advantage/group_baseline.h"

namespace rollcall {

AdvantageResult GroupMeanAdvantages(const AdvantageOptions&, const AdvantageInput& input) {
  return CompareWithinGroups(
      input, [](double reward, const GroupStatistics& group) { return reward - group.mean; });
}

}  // namespace rollcall
