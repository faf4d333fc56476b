// Negative log-likelihood: L_t = -l_t. Reads no advantages.
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

ObjectiveResult NllLoss(const ObjectiveOptions& options, const TokenLossInput& input);

}  // namespace rollcall
