// Direct preference optimisation: with h = chosen - rejected log-ratio,
//   L = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), e = label_smoothing.
// Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; e > 0 is conservative DPO.
// A reward is beta times the log-ratio; reward_accuracy is strict, equal rewards are ties.
#pragma once

#include "trainer/loss/objective.h"

namespace rollcall {

inline constexpr std::string_view kDpoMetrics[] = {
    "reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy", "reward_tie_fraction"};

ObjectiveResult DpoLoss(const ObjectiveOptions& options, const PairLossInput& input);

}  // namespace rollcall
