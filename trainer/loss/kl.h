// Estimators of KL(policy || reference) on sampled tokens, d = log policy - log reference clamped
// to [-20, 20]:
//   k1  d                unbiased; for rewards (as a loss its gradient is zero in expectation)
//   k2  d^2 / 2          its gradient is that of KL(policy || reference)
//   k3  exp(-d) - 1 + d  never negative; at most 10
// Source: Schulman 2020, "Approximating KL divergence".
#pragma once

#include <span>
#include <string_view>

#include "services/base/status/status.h"
#include "services/model/tensor.h"

namespace rollcall {

struct KlEstimator {
  std::string_view name;
  // One token, on the host: for rewards and metrics.
  double (*value)(double difference);
  // Float64 [T], differentiable in the differences.
  at::Tensor (*loss)(const at::Tensor& differences_T);
};

std::span<const KlEstimator> KlEstimatorParts();

// kInvalidArgument lists the names.
StatusOr<KlEstimator> FindKlEstimator(std::string_view name);

double KlK1(double difference);
double KlK2(double difference);
double KlK3(double difference);

}  // namespace rollcall
