// No baseline: A is the reward of the sequence, 0 where there is none. Objectives that read no
// advantages (nll, dpo) use it too; it drops nothing.
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult NoAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
