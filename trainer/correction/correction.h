// Importance correction: weights for the loss of tokens that another policy (stale, or numerically
// different) sampled, w = exp(prox - behavior), detached. Denominators are not touched, so that
// rejecting data shortens the step instead of re-weighting the rest.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

// Log-ratios are clamped to this range before exp().
inline constexpr double kMaxLogRatio = 20.0;

// Writes the weight of each token; returns how many were cut or rejected.
//   log_ratios  log prox - log behavior
//   cap         largest weight, > 0
using CorrectionFn = int64_t (*)(double cap, std::span<const double> log_ratios,
                                 std::span<double> weights);

struct Correction {
  std::string_view name;
  CorrectionFn weigh;
};

std::span<const Correction> CorrectionParts();

// kInvalidArgument lists the names.
StatusOr<Correction> FindCorrection(std::string_view name);

}  // namespace rollcall
