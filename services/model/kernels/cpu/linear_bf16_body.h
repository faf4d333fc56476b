// Products of bfloat16 pairs for one instruction set; see kernels/linear.h.
#pragma once

#include "services/model/kernels/cpu/bfloat16_body.h"
#include "services/model/kernels/cpu/lane_product_body.h"
#include "services/model/kernels/cpu/linear_body.h"

namespace rollcall::ROLLCALL_ISA {

struct PairOp {
  static constexpr int64_t kHeadSteps = 0;
  ROLLCALL_INLINE F32x16 Dot(F32x16 acc, F32x16 x, F32x16 w) { return DotPairs(acc, x, w); }
  ROLLCALL_INLINE F32x16 Finish(F32x16 acc, float, const float*) { return acc; }
};

// Rounds `columns` rows of w, `depth` of each, into a slab of a panel.
static void PackPairSlab(const float* w, int64_t w_stride, int64_t columns, int64_t depth,
                         float* slab) {
  const int64_t num_pairs = NumBf16Pairs(depth);
  alignas(64) float rows[8 * kStepBlock];
  for (int64_t first = 0; first < kPanelColumns; first += 8) {
    for (int64_t i = 0; i < num_pairs; i += kStepBlock) {
      const int64_t pairs_left = num_pairs - i;
      const int64_t pairs = pairs_left < kStepBlock ? pairs_left : kStepBlock;
      const int64_t size = 2 * i + 2 * pairs <= depth ? 2 * pairs : depth - 2 * i;
      for (int64_t j = 0; j < 8; ++j) {
        float* row = rows + j * kStepBlock;
        if (first + j < columns) {
          PairNeighbours(w + (first + j) * w_stride + 2 * i, size, row);
        } else {
          memset(row, 0, static_cast<size_t>(pairs) * sizeof(float));
        }
      }
      Transpose(rows, kStepBlock, pairs, 8, slab + i * kPanelColumns + first, kPanelColumns);
    }
  }
}

static void PackLinearBf16(const float* w, int64_t num_outputs, int64_t depth, Bf16Pair* packed) {
  for (int64_t first = 0; first < num_outputs; first += kPanelColumns) {
    const int64_t left = num_outputs - first;
    PackPairSlab(w + first * depth, depth, left < kPanelColumns ? left : kPanelColumns, depth,
                 Lanes(packed) + first * NumBf16Pairs(depth));
  }
}

static void LinearBf16(const Bf16LinearArgs& args) {
  const LaneProduct p{.x = Lanes(args.x),
                      .x_scales = nullptr,
                      .num_rows = args.num_rows,
                      .num_steps = NumBf16Pairs(args.depth),
                      .num_outputs = args.num_outputs,
                      .packed = args.packed == nullptr ? nullptr : Lanes(args.packed),
                      .y = args.y,
                      .y_stride = args.y_stride == 0 ? args.num_outputs : args.y_stride};
  const auto pack = [&](int64_t first, int64_t step, int64_t num_steps, float* slab) {
    const int64_t outputs_left = args.num_outputs - first;
    const int64_t depth_left = args.depth - 2 * step;
    PackPairSlab(args.w + first * args.depth + 2 * step, args.depth,
                 outputs_left < kPanelColumns ? outputs_left : kPanelColumns,
                 depth_left < 2 * num_steps ? depth_left : 2 * num_steps, slab);
  };
  LaneBlocked<PairOp>(p, LaneWide<PairOp>(p), pack);
  AddBias(args.bias, p.num_rows, p.num_outputs, p.y, p.y_stride);
}

}  // namespace rollcall::ROLLCALL_ISA
