// y = x / sqrt(mean(x^2) + eps) * (w + offset) over the last dimension.
// Source: Zhang and Sennrich 2019, arXiv 1910.07467; Hugging Face's order of operations.
#pragma once

#include <cstdint>

namespace rollcall {

struct RmsNormArgs {
  const float* x = nullptr;  // [N, E]
  const float* w = nullptr;  // [E]
  int64_t num_rows = 0;
  int64_t width = 0;
  double eps = 0;
  float weight_offset = 0;  // 1 where weights count from one
  float* y = nullptr;       // [N, E]
};

// Of y with respect to x and w.
struct RmsNormGradArgs {
  const float* x = nullptr;
  const float* w = nullptr;
  const float* dy = nullptr;
  int64_t num_rows = 0;
  int64_t width = 0;
  double eps = 0;
  float weight_offset = 0;  // 1 where weights count from one
  float* dx = nullptr;      // [N, E]
  float* dw = nullptr;      // [E], added to in row order
};

}  // namespace rollcall
