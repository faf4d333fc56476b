// y[n, o] = sum over k of x[n, k] * w[o, k], plus b[o], row-major. No torch.
//
// Every y[n, o] is one accumulator that takes its products in the order of k (fused where the
// machine can), so its bits depend on x[n] and w[o] alone: packed or packed on the fly, one row or
// a thousand, it is the same number. The bias is added last.
//
// In bfloat16, x and w are rounded (see bfloat16.h) and the law stays the same: the products, which
// are exact in float32, are added in the order of k. So the result is that of float32 with rounded
// x and w, bit for bit and on every instruction set, but for subnormal numbers, which vdpbf16ps
// takes for zero.
#pragma once

#include <cstdint>

#include "services/model/kernels/bfloat16.h"

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

// Pairs of a packed [O, K] matrix: [ceil(O/32)][ceil(K/2)][32] pairs of neighbours along k.
int64_t Bf16PackedSize(int64_t num_outputs, int64_t depth);

struct Bf16LinearArgs {
  const Bf16Pair* x = nullptr;       // [N, ceil(K/2)] pairs of neighbours, as round_rows makes them
  int64_t num_rows = 0;              // N, may be 0
  int64_t depth = 0;                 // K
  int64_t num_outputs = 0;           // O
  const float* w = nullptr;          // [O, K]; not read when packed is given
  const Bf16Pair* packed = nullptr;  // the packed matrix, or null: packed on the fly
  const float* bias = nullptr;       // [O], or null
  float* y = nullptr;                // row n at y + n * y_stride
  int64_t y_stride = 0;              // 0: O
};

}  // namespace rollcall
