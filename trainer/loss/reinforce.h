// REINFORCE: L_t = -A_t l_t.
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

ObjectiveResult ReinforceLoss(const ObjectiveOptions& options, const TokenLossInput& input);

}  // namespace rollcall
