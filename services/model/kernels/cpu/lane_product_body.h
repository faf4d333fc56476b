// Products over panels of 32-bit lanes, each of which holds several numbers along k: what bfloat16
// and int8 have in common. An Op says what a lane adds to an accumulator:
//
//   Dot(acc, x, w)                     adds the products of the numbers in the lanes of x and w
//   Finish(acc, x_scale, head, lanes)  what y gets in the end; `head` is the panel's, at the vector
//   kHeadSteps                         steps (rows of 32 lanes) in front of a panel
#pragma once

#include "services/model/kernels/cpu/gemm_body.h"
#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/linear.h"

namespace rollcall::ROLLCALL_ISA {

// Blocking as in float32: a slab of a panel (64 KiB) and the rows it meets stay in the L2 cache.
constexpr int64_t kStepBlock = 512;
constexpr int64_t kLaneRowBlock = 240;
constexpr int64_t kStepsAhead = 16;

// Few rows read several panels side by side, as in float32.
constexpr int kLaneWidePanels = 4;
constexpr int kLaneWideMaxRows = 3;

// A panel, or a slab of it, and some rows.
struct LaneOperands {
  const float* x;  // row r at x + r * x_stride
  ptrdiff_t x_stride;
  const float* x_scales;  // of the rows, for an Op that has them
  const float* head;      // of the panel
  const float* w;         // step i of the panel at w + i * kPanelColumns
  ptrdiff_t panel_stride;
  float* y;
  ptrdiff_t y_stride;
  int64_t num_steps;
  bool accumulate;  // y holds accumulators
  bool finish;      // y gets results
};

// R rows times V vectors, two of which make a panel.
template <typename Op, int R, int V, Prefetch kPrefetch>
ROLLCALL_INLINE void LaneTile(const LaneOperands& o) {
  constexpr int kVectorsOfPanel = kPanelColumns / kLanes;
  F32x16 acc[R][V] = {};
  if (o.accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = Load(o.y + r * o.y_stride + v * kLanes);
    }
  }
  const float* w = o.w;
  for (int64_t i = 0; i < o.num_steps; ++i, w += kPanelColumns) {
    F32x16 w_i[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const float* p = w + (v / kVectorsOfPanel) * o.panel_stride + (v % kVectorsOfPanel) * kLanes;
      if (kPrefetch == Prefetch::kAhead) __builtin_prefetch(p + kStepsAhead * kPanelColumns);
      w_i[v] = Load(p);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32x16 x = Set(o.x[r * o.x_stride + i]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = Op::Dot(acc[r][v], x, w_i[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      F32x16 result = acc[r][v];
      if (Op::kHeadSteps > 0 && o.finish) {
        result = Op::Finish(
            result, o.x_scales[r],
            o.head + (v / kVectorsOfPanel) * o.panel_stride + (v % kVectorsOfPanel) * kLanes);
      }
      Store(o.y + r * o.y_stride + v * kLanes, result);
    }
  }
}

template <typename Op, int V, Prefetch kPrefetch, int R = kTileRows>
ROLLCALL_INLINE void LaneRows(int64_t rows, const LaneOperands& o) {
  if (rows == R) return LaneTile<Op, R, V, kPrefetch>(o);
  if constexpr (R > 1) LaneRows<Op, V, kPrefetch, R - 1>(rows, o);
}

// One panel over all rows, in tiles of nearly equal height; the first brings w into the cache.
template <typename Op>
static void LanePanel(const LaneOperands& operands, int64_t num_rows) {
  for (int v = 0; v < kPanelColumns / kLanes; v += kTileVectors) {
    LaneOperands o = operands;
    o.w += v * kLanes;
    o.head += v * kLanes;
    o.y += v * kLanes;
    int64_t rows = num_rows;
    for (int64_t tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
      const int64_t height = (rows + tiles - 1) / tiles;
      if (rows == num_rows) {
        LaneRows<Op, kTileVectors, Prefetch::kAhead>(height, o);
      } else {
        LaneRows<Op, kTileVectors, Prefetch::kNone>(height, o);
      }
      o.x += height * o.x_stride;
      o.x_scales += Op::kHeadSteps > 0 ? height : 0;
      o.y += height * o.y_stride;
      rows -= height;
    }
  }
}

static void CopyColumns(const float* from, ptrdiff_t from_stride, int64_t rows, int64_t columns,
                        float* to, ptrdiff_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    memcpy(to + r * to_stride, from + r * from_stride,
           static_cast<size_t>(columns) * sizeof(float));
  }
}

// The last panel of a matrix may have fewer columns than w has room for: y gets the real ones.
template <typename Op>
static void LanePartialPanel(const LaneOperands& operands, int64_t rows, int64_t columns) {
  alignas(64) float whole[kLaneRowBlock * kPanelColumns] = {};
  LaneOperands o = operands;
  if (o.accumulate) CopyColumns(o.y, o.y_stride, rows, columns, whole, kPanelColumns);
  o.y = whole;
  o.y_stride = kPanelColumns;
  LanePanel<Op>(o, rows);
  CopyColumns(whole, kPanelColumns, rows, columns, operands.y, operands.y_stride);
}

// x times all panels. A panel is its head and then its steps.
struct LaneProduct {
  const float* x;         // [N, steps]
  const float* x_scales;  // [N], or null
  int64_t num_rows;
  int64_t num_steps;
  int64_t num_outputs;
  const float* packed;  // or null: `pack` gives slabs
  float* y;
  ptrdiff_t y_stride;
};

// pack(first_output, first_step, num_steps, slab) is called where there are no packed panels.
template <typename Op, typename PackFn>
static void LaneBlocked(const LaneProduct& p, int64_t first_output, const PackFn& pack) {
  alignas(64) float slab[kStepBlock * kPanelColumns];
  for (int64_t n = 0; n < p.num_rows; n += kLaneRowBlock) {
    const int64_t rows_left = p.num_rows - n;
    const int64_t rows = rows_left < kLaneRowBlock ? rows_left : kLaneRowBlock;
    for (int64_t i = 0; i < p.num_steps; i += kStepBlock) {
      const int64_t steps_left = p.num_steps - i;
      const int64_t steps = steps_left < kStepBlock ? steps_left : kStepBlock;
      for (int64_t first = first_output; first < p.num_outputs; first += kPanelColumns) {
        const int64_t left = p.num_outputs - first;
        const float* head = p.packed + first * (Op::kHeadSteps + p.num_steps);
        const float* w = head + (Op::kHeadSteps + i) * kPanelColumns;
        if (p.packed == nullptr) {
          pack(first, i, steps, slab);
          head = slab;
          w = slab;
        }
        const LaneOperands operands{.x = p.x + n * p.num_steps + i,
                                    .x_stride = p.num_steps,
                                    .x_scales = Op::kHeadSteps > 0 ? p.x_scales + n : nullptr,
                                    .head = head,
                                    .w = w,
                                    .panel_stride = 0,
                                    .y = p.y + n * p.y_stride + first,
                                    .y_stride = p.y_stride,
                                    .num_steps = steps,
                                    .accumulate = i > 0,
                                    .finish = i + steps == p.num_steps};
        if (left >= kPanelColumns) {
          LanePanel<Op>(operands, rows);
        } else {
          LanePartialPanel<Op>(operands, rows, left);
        }
      }
    }
  }
}

// Few rows times as many panels as fit side by side; the number of outputs that were computed.
template <typename Op>
static int64_t LaneWide(const LaneProduct& p) {
  constexpr int64_t kWideColumns = kLaneWidePanels * kPanelColumns;
  constexpr int kVectors = kWideColumns / kLanes;
  if (p.packed == nullptr || p.num_rows < 1 || p.num_rows > kLaneWideMaxRows) return 0;
  const int64_t panel_steps = Op::kHeadSteps + p.num_steps;
  int64_t first = 0;
  for (; first + kWideColumns <= p.num_outputs; first += kWideColumns) {
    const float* head = p.packed + first * panel_steps;
    const LaneOperands o{.x = p.x,
                         .x_stride = p.num_steps,
                         .x_scales = p.x_scales,
                         .head = head,
                         .w = head + Op::kHeadSteps * kPanelColumns,
                         .panel_stride = panel_steps * kPanelColumns,
                         .y = p.y + first,
                         .y_stride = p.y_stride,
                         .num_steps = p.num_steps,
                         .accumulate = false,
                         .finish = true};
    if (p.num_rows == 1) LaneTile<Op, 1, kVectors, Prefetch::kNone>(o);
    if (p.num_rows == 2) LaneTile<Op, 2, kVectors, Prefetch::kNone>(o);
    if (p.num_rows == 3) LaneTile<Op, 3, kVectors, Prefetch::kNone>(o);
  }
  return first;
}

}  // namespace rollcall::ROLLCALL_ISA
