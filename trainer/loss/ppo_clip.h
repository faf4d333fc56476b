// Clipped surrogate: L_t = max(-r A, -clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(l - prox).
// Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7; two bounds: DAPO, arXiv 2503.14476.
// Reports ratio_mean, clip_fraction_low (A < 0) and clip_fraction_high (A > 0).
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

ObjectiveResult PpoClipLoss(const ObjectiveOptions& options, const TokenLossInput& input);

}  // namespace rollcall
