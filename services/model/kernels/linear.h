// y[n, o] = sum over k of x[n, k] * w[o, k], plus b[o], row-major. No torch.
//
// Every y[n, o] is one accumulator that takes its products in the order of k (fused where the
// machine can), so its bits depend on x[n] and w[o] alone: packed or packed on the fly, one row or
// a thousand, it is the same number. The bias is added last.
#pragma once

#include <cstdint>

namespace rollcall {

// Columns of one packed panel.
constexpr int64_t kPanelColumns = 32;

// Floats of a packed [O, K] matrix: [ceil(O/32)][K][32], zeros in the missing columns.
int64_t PackedSize(int64_t num_outputs, int64_t depth);

struct LinearArgs {
  const float* x = nullptr;       // [N, K]
  int64_t num_rows = 0;           // N, may be 0
  int64_t depth = 0;              // K
  int64_t num_outputs = 0;        // O
  const float* w = nullptr;       // [O, K]; not read when packed is given
  const float* packed = nullptr;  // the packed matrix, or null: panels are packed on the fly
  const float* bias = nullptr;    // [O], or null
  float* y = nullptr;             // row n at y + n * y_stride
  int64_t y_stride = 0;           // 0: O
};

}  // namespace rollcall
