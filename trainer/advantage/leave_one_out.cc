#include "trainer/advantage/leave_one_out.h"

#include "trainer/advantage/group_baseline.h"

namespace rollcall {

AdvantageResult LeaveOneOutAdvantages(const AdvantageOptions&, const AdvantageInput& input) {
  return CompareWithinGroups(input, [](double reward, const GroupStatistics& group) {
    const auto n = static_cast<double>(group.count);
    return (reward - group.mean) * n / (n - 1);
  });
}

}  // namespace rollcall
