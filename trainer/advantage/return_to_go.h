// REINFORCE++: A_t = rho_t + gamma A_next over trainable tokens; observation tokens are stepped
// over without discounting. Source: arXiv 2501.03262; whitening over the batch is a step of its
// own.
#pragma once

#include "trainer/advantage/advantage.h"

namespace rollcall {

AdvantageResult ReturnToGoAdvantages(const AdvantageOptions& options, const AdvantageInput& input);

}  // namespace rollcall
