#include "trainer/loss/ppo_clip.h"

#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/sub.h>

#include "trainer/correction/correction.h"

namespace rollcall {

ObjectiveResult PpoClipLoss(const ObjectiveOptions& options, const TokenLossInput& input) {
  const double low = 1.0 - options.clip_low;
  const double high = 1.0 + options.clip_high;
  const at::Tensor ratios_T = at::exp(
      at::clamp(at::sub(input.logprobs_T, input.prox_logprobs_T), -kMaxLogRatio, kMaxLogRatio));
  const at::Tensor gains_T = at::neg(input.advantages_T);
  const at::Tensor clipped_T = at::mul(at::clamp(ratios_T, low, high), gains_T);
  ObjectiveResult result;
  result.losses = at::maximum(at::mul(ratios_T, gains_T), clipped_T);

  const at::Tensor ratios = ratios_T.detach().contiguous();
  const at::Tensor advantages = input.advantages_T.contiguous();
  const double* r = ratios.const_data_ptr<double>();
  const double* a = advantages.const_data_ptr<double>();
  double sum = 0;
  double num_low = 0;
  double num_high = 0;
  for (int64_t t = 0; t < ratios.numel(); ++t) {
    sum += r[t];
    num_low += r[t] < low && a[t] < 0;
    num_high += r[t] > high && a[t] > 0;
  }
  result.sums = {sum, num_low, num_high};
  return result;
}

}  // namespace rollcall
