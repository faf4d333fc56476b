// Direct preference optimisation: with h = chosen - rejected log-ratio,
//   L = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), e = label_smoothing.
// Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; e > 0 is conservative DPO.
// Reports reward_chosen, reward_rejected, reward_margin, reward_accuracy (strict) and
// reward_tie_fraction, where a reward is beta times the log-ratio.
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

ObjectiveResult DpoLoss(const ObjectiveOptions& options, const PairLossInput& input);

}  // namespace rollcall
