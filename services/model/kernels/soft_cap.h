// y = cap * tanh(x / cap), element by element: bounds scores and logits.
// Source: Gemma 2 report, arXiv 2408.00118, section 2.
#pragma once

#include <cstdint>

namespace rollcall {

struct SoftCapArgs {
  const float* x = nullptr;
  int64_t size = 0;
  float cap = 0;
  float* y = nullptr;  // may be x
};

// dx = dy * (1 - (y / cap)^2)
struct SoftCapGradArgs {
  const float* y = nullptr;  // what SoftCap gave
  const float* dy = nullptr;
  int64_t size = 0;
  float cap = 0;
  float* dx = nullptr;  // may be dy
};

}  // namespace rollcall
