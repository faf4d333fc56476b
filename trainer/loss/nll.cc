#include "trainer/loss/nll.h"

#include <ATen/ops/neg.h>

namespace rollcall {

ObjectiveResult NllLoss(const ObjectiveOptions&, const TokenLossInput& input) {
  return {at::neg(input.logprobs_T), {}};
}

}  // namespace rollcall
