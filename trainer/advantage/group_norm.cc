#include "trainer/advantage/group_norm.h"

#include "trainer/advantage/group_baseline.h"

namespace rollcall {

AdvantageResult GroupNormAdvantages(const AdvantageOptions& options, const AdvantageInput& input) {
  return CompareWithinGroups(input, [&](double reward, const GroupStatistics& group) {
    return (reward - group.mean) / (group.stddev + options.epsilon);
  });
}

}  // namespace rollcall
