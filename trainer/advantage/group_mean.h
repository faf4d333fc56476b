// Dr. GRPO: A = R - mean over the prompt group, broadcast over the tokens.
// Source: Understanding R1-Zero-Like Training, arXiv 2503.20783.
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult GroupMeanAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
