// Clipped surrogate: L_t = max(-r A, -clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(l - prox).
// Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7; two bounds: DAPO, arXiv 2503.14476.
// clip_fraction_low counts tokens below the lower bound with A < 0, clip_fraction_high tokens above
// the upper bound with A > 0: those whose gradient is cut.
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

inline constexpr std::string_view kPpoClipMetrics[] = {"ratio_mean", "clip_fraction_low",
                                                       "clip_fraction_high"};

ObjectiveResult PpoClipLoss(const ObjectiveOptions& options, const TokenLossInput& input);

}  // namespace rollcall
