// y = (x - mean(x)) / sqrt(variance(x) + eps) * w + b over the last dimension.
// Source: Ba et al. 2016, arXiv 1607.06450. Mean and variance run over sixteen lanes and then in a
// fixed tree; the variance is that of the centred values.
#pragma once

#include <cstdint>

namespace rollcall {

struct LayerNormArgs {
  const float* x = nullptr;  // [N, E]
  const float* w = nullptr;  // [E]
  const float* b = nullptr;  // [E]
  int64_t num_rows = 0;
  int64_t width = 0;
  double eps = 0;
  float* y = nullptr;  // [N, E]
};

// Of y with respect to x, w and b.
struct LayerNormGradArgs {
  const float* x = nullptr;
  const float* w = nullptr;
  const float* dy = nullptr;
  int64_t num_rows = 0;
  int64_t width = 0;
  double eps = 0;
  float* dx = nullptr;  // [N, E]
  float* dw = nullptr;  // [E], added to in row order
  float* db = nullptr;  // [E], added to in row order
};

}  // namespace rollcall
