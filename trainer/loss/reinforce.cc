#include "trainer/loss/reinforce.h"

#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>

namespace rollcall {

ObjectiveResult ReinforceLoss(const ObjectiveOptions&, const TokenLossInput& input) {
  return {at::neg(at::mul(input.advantages_T, input.logprobs_T)), {}};
}

}  // namespace rollcall
