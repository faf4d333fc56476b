// GRPO: A = (R - mean) / (std + epsilon) over the prompt group, std with n - 1, broadcast over the
// tokens. Source: DeepSeekMath, arXiv 2402.03300, eq. 4 (outcome supervision).
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult GroupNormAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
