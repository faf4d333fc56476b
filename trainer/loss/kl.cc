#include "trainer/loss/kl.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/add.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>

#include "trainer/batch/find_by_name.h"
#include "trainer/correction/correction.h"

namespace rollcall {
namespace {

constexpr double kMaxK3 = 10.0;

double Clamped(double d) { return std::clamp(d, -kMaxLogRatio, kMaxLogRatio); }
at::Tensor Clamped(const at::Tensor& d_T) { return at::clamp(d_T, -kMaxLogRatio, kMaxLogRatio); }

at::Tensor LossK1(const at::Tensor& d_T) { return Clamped(d_T); }

at::Tensor LossK2(const at::Tensor& d_T) {
  const at::Tensor clamped_T = Clamped(d_T);
  return at::mul(at::mul(clamped_T, clamped_T), 0.5);
}

at::Tensor LossK3(const at::Tensor& d_T) {
  const at::Tensor clamped_T = Clamped(d_T);
  return at::clamp_max(at::add(at::expm1(at::neg(clamped_T)), clamped_T), kMaxK3);
}

constexpr KlEstimator kEstimators[] = {
    {"k1", KlK1, LossK1},
    {"k2", KlK2, LossK2},
    {"k3", KlK3, LossK3},
};

}  // namespace

double KlK1(double difference) { return Clamped(difference); }
double KlK2(double difference) { return 0.5 * Clamped(difference) * Clamped(difference); }
double KlK3(double difference) {
  const double d = Clamped(difference);
  return std::min(std::expm1(-d) + d, kMaxK3);
}

std::span<const KlEstimator> KlEstimatorParts() { return kEstimators; }

StatusOr<KlEstimator> FindKlEstimator(std::string_view name) {
  return FindByName(KlEstimatorParts(), "algorithm.kl.estimator", name);
}

}  // namespace rollcall
