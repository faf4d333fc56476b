// Truncated importance sampling per token: w = min(exp(d), cap). With ppo_clip this is decoupled
// PPO with a cap. Source: Hilton et al. 2021, arXiv 2110.00641; AReaL, arXiv 2505.24298.
#pragma once

#include "trainer/correction/correction.h"

namespace rollcall {

int64_t WeighTokenTruncate(double cap, std::span<const double> log_ratios,
                           std::span<double> weights);

}  // namespace rollcall
