// What the estimators that compare within a prompt group share.
#pragma once

#include <functional>

#include "trainer/advantage/advantage.h"

namespace rollcall {

// Statistics of the scored sequences of one group.
struct GroupStatistics {
  int64_t count = 0;
  double mean = 0;
  double stddev = 0;  // Bessel; 0 for a group of one
};

// Broadcasts advantage(reward, statistics) over the tokens of each sequence. Groups of one are
// dropped, groups of equal rewards get exact zeros. Groups may differ in size; a sequence without
// tokens counts in its group's statistics.
AdvantageResult CompareWithinGroups(
    const AdvantageInput& input,
    const std::function<double(double reward, const GroupStatistics& group)>& advantage);

}  // namespace rollcall
