// Generalized advantage estimation over trainable tokens, in reverse; tokens in between are stepped
// over, neither discounted nor bootstrapped from:
//   delta_t = rho_t + gamma V_next - V_t,  A_t = delta_t + gamma lambda A_next,  y_t = A_t + V_t
// where V after the last token is bootstrap_S. Source: Schulman et al. 2016, arXiv 1506.02438,
// eq. 16.
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult GaeAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
