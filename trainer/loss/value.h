// Loss of the critic: 1/2 max((V - y)^2, (clip(V, V_old - c, V_old + c) - y)^2).
// Source: openai/baselines ppo2; c = 0 leaves out the clipped term.
#pragma once

#include "services/model/tensor.h"

namespace rollcall {

// All float64 [T]; only values_T carries a gradient.
struct ValueLossInput {
  at::Tensor values_T;
  at::Tensor old_values_T;
  at::Tensor returns_T;
};

// Float64 [T].
at::Tensor ValueLoss(double clip, const ValueLossInput& input);

}  // namespace rollcall
