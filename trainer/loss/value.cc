#include "trainer/loss/value.h"

#include <ATen/ops/add.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>

namespace rollcall {
namespace {

at::Tensor HalfSquare(const at::Tensor& x_T) { return at::mul(at::mul(x_T, x_T), 0.5); }

}  // namespace

at::Tensor ValueLoss(double clip, const ValueLossInput& input) {
  const at::Tensor plain_T = HalfSquare(at::sub(input.values_T, input.returns_T));
  if (clip <= 0) return plain_T;
  const at::Tensor moved_T = at::clamp(at::sub(input.values_T, input.old_values_T), -clip, clip);
  return at::maximum(plain_T,
                     HalfSquare(at::sub(at::add(input.old_values_T, moved_T), input.returns_T)));
}

}  // namespace rollcall
