// What every objective takes and gives. Objectives are minimised; they see flat float64 tensors of
// one micro-batch and return one loss per token (or pair); aggregation and correction weights are
// applied by the caller.
// Letters: T trainable tokens, P preference pairs.
#pragma once

#include <string_view>
#include <vector>

#include "services/model/tensor.h"

namespace rollcall {

struct ObjectiveOptions {
  double clip_low = 0.2;
  double clip_high = 0.2;
  double beta = 0.1;             // inverse temperature of preference losses
  double label_smoothing = 0.0;  // assumed share of flipped labels, in [0, 0.5)
};

// All float64 [T] on the CPU; only logprobs_T carries a gradient.
struct TokenLossInput {
  at::Tensor logprobs_T;       // current policy
  at::Tensor prox_logprobs_T;  // policy at the start of the step
  at::Tensor advantages_T;
};

// Float64 [P]: sum over the tokens of one side of log policy - log reference; both carry gradients.
struct PairLossInput {
  at::Tensor chosen_logratios_P;
  at::Tensor rejected_logratios_P;
};

struct ObjectiveResult {
  at::Tensor losses;  // float64 [T] or [P]
  // Sums over the tokens (pairs) of the micro-batch, one per name in the objective's list of
  // metrics; reported as means.
  std::vector<double> sums;
};

using TokenLossFn = ObjectiveResult (*)(const ObjectiveOptions&, const TokenLossInput&);
using PairLossFn = ObjectiveResult (*)(const ObjectiveOptions&, const PairLossInput&);

}  // namespace rollcall
