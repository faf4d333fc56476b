// y = silu(gate) * up, element by element.
// Source: Shazeer 2020, arXiv 2002.05202.
#pragma once

#include <cstdint>

namespace rollcall {

struct SwigluArgs {
  const float* gate = nullptr;
  const float* up = nullptr;
  int64_t size = 0;
  float* y = nullptr;  // may be gate or up
};

struct SwigluGradArgs {
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* dy = nullptr;
  int64_t size = 0;
  float* dgate = nullptr;
  float* dup = nullptr;
};

}  // namespace rollcall
