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

// int8 weights and inputs: w[o] is rounded to the nearest of 127 steps on either side of zero, the
// largest being max |w[o]|, and x[n] likewise; sums of steps are integers and exact, so the order
// does not matter and every instruction set has the same bits:
//   y[n, o] = (sum over k of xq[n, k] * wq[o, k]) * (max |x[n]| / 127) * (max |w[o]| / 127) + b[o]
// A row that is not finite gives NaN. It is for sampling: the learner does not compute so, and its
// log-probabilities differ by what the rounding costs.
constexpr int kInt8Steps = 127;
// Below this depth no sum leaves 32 bits.
constexpr int64_t kInt8MaxDepth = 65536;

using Int8Quad = uint32_t;  // four neighbours along k, the first in the lowest byte
__attribute__((always_inline)) constexpr int64_t NumInt8Quads(int64_t size) {
  return (size + 3) / 4;
}
// Quads of a packed [O, K] matrix: ceil(O/32) panels of 32 scales, 32 offsets and [ceil(K/4)][32].
int64_t Int8PackedSize(int64_t num_outputs, int64_t depth);

struct Int8LinearArgs {
  const Int8Quad* x = nullptr;       // [N, ceil(K/4)] and their
  const float* x_scales = nullptr;   // [N] scales, as quantize_rows makes them
  int64_t num_rows = 0;              // N, may be 0
  int64_t depth = 0;                 // K, at most kInt8MaxDepth
  int64_t num_outputs = 0;           // O
  const Int8Quad* packed = nullptr;  // the packed matrix
  const float* bias = nullptr;       // [O], or null
  float* y = nullptr;                // row n at y + n * y_stride
  int64_t y_stride = 0;              // 0: O
};

}  // namespace rollcall
