// RLOO: A = R - mean of the other samples of the group = n / (n - 1) * (R - mean).
// Source: Back to Basics, arXiv 2402.14740, eq. 6. A KL penalty placed in the reward is part of R.
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult LeaveOneOutAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
