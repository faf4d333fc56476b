#include "trainer/loss/dpo.h"

#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/sub.h>

namespace rollcall {

ObjectiveResult DpoLoss(const ObjectiveOptions& options, const PairLossInput& input) {
  const at::Tensor logits_P =
      at::mul(at::sub(input.chosen_logratios_P, input.rejected_logratios_P), options.beta);
  ObjectiveResult result;
  result.losses = at::mul(at::log_sigmoid(logits_P), -(1.0 - options.label_smoothing));
  if (options.label_smoothing > 0) {
    result.losses = at::sub(result.losses,
                            at::mul(at::log_sigmoid(at::neg(logits_P)), options.label_smoothing));
  }

  const at::Tensor chosen_P = input.chosen_logratios_P.detach().contiguous();
  const at::Tensor rejected_P = input.rejected_logratios_P.detach().contiguous();
  const double* w = chosen_P.const_data_ptr<double>();
  const double* l = rejected_P.const_data_ptr<double>();
  double chosen = 0;
  double rejected = 0;
  double accurate = 0;
  double ties = 0;
  for (int64_t p = 0; p < chosen_P.numel(); ++p) {
    chosen += options.beta * w[p];
    rejected += options.beta * l[p];
    accurate += w[p] > l[p];
    ties += w[p] == l[p];
  }
  result.sums = {chosen, rejected, chosen - rejected, accurate, ties};
  return result;
}

}  // namespace rollcall
