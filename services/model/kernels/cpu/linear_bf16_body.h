// Products of bfloat16 pairs for one instruction set; see kernels/linear.h.
#pragma once

#include "services/model/kernels/cpu/bfloat16_body.h"
#include "services/model/kernels/cpu/linear_body.h"
#include "services/model/kernels/linear.h"

namespace rollcall::ROLLCALL_ISA {

// Blocking as in float32: a slab of a panel (64 KiB) and the rows it meets stay in the L2 cache.
constexpr int64_t kPairBlock = 512;
constexpr int64_t kPairRowBlock = 240;
constexpr int64_t kPairPrefetch = 16;

// Few rows read several panels side by side, as in float32.
constexpr int kPairWidePanels = 4;
constexpr int kPairWideMaxRows = 3;

struct PairOperands {
  const float* x;  // row r at x + r * x_stride, in pairs
  ptrdiff_t x_stride;
  const float* w;  // step i of the panel at w + i * kPanelColumns; panels panel_stride apart
  ptrdiff_t panel_stride;
  float* y;
  ptrdiff_t y_stride;
  int64_t num_pairs;
  bool accumulate;
};

// R rows times V vectors, two of which make a panel.
template <int R, int V, Prefetch kPrefetch>
ROLLCALL_INLINE void PairTile(const PairOperands& o) {
  constexpr int kVectorsOfPanel = kPanelColumns / kLanes;
  F32x16 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      acc[r][v] = o.accumulate ? Load(o.y + r * o.y_stride + v * kLanes) : Set(0.0F);
    }
  }
  const float* w = o.w;
  for (int64_t i = 0; i < o.num_pairs; ++i, w += kPanelColumns) {
    F32x16 w_i[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const float* p = w + (v / kVectorsOfPanel) * o.panel_stride + (v % kVectorsOfPanel) * kLanes;
      if (kPrefetch == Prefetch::kAhead) __builtin_prefetch(p + kPairPrefetch * kPanelColumns);
      w_i[v] = Load(p);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32x16 x = Set(o.x[r * o.x_stride + i]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = DotPairs(acc[r][v], x, w_i[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Store(o.y + r * o.y_stride + v * kLanes, acc[r][v]);
    }
  }
}

template <int V, Prefetch kPrefetch, int R = kTileRows>
ROLLCALL_INLINE void PairRows(int64_t rows, const PairOperands& o) {
  if (rows == R) return PairTile<R, V, kPrefetch>(o);
  if constexpr (R > 1) PairRows<V, kPrefetch, R - 1>(rows, o);
}

// One panel over all rows, in tiles of nearly equal height; the first brings w into the cache.
static void PairPanel(const PairOperands& operands, int64_t num_rows) {
  for (int v = 0; v < kPanelColumns / kLanes; v += kTileVectors) {
    PairOperands o = operands;
    o.w += v * kLanes;
    o.y += v * kLanes;
    int64_t rows = num_rows;
    for (int64_t tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
      const int64_t height = (rows + tiles - 1) / tiles;
      if (rows == num_rows) {
        PairRows<kTileVectors, Prefetch::kAhead>(height, o);
      } else {
        PairRows<kTileVectors, Prefetch::kNone>(height, o);
      }
      o.x += height * o.x_stride;
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
static void PairPartialPanel(const PairOperands& operands, int64_t rows, int64_t columns) {
  alignas(64) float whole[kPairRowBlock * kPanelColumns] = {};
  PairOperands o = operands;
  if (o.accumulate) CopyColumns(o.y, o.y_stride, rows, columns, whole, kPanelColumns);
  o.y = whole;
  o.y_stride = kPanelColumns;
  PairPanel(o, rows);
  CopyColumns(whole, kPanelColumns, rows, columns, operands.y, operands.y_stride);
}

// Rounds `columns` rows of w, `depth` of each, into a slab of a panel.
static void PackPairSlab(const float* w, int64_t w_stride, int64_t columns, int64_t depth,
                         float* slab) {
  const int64_t num_pairs = NumBf16Pairs(depth);
  alignas(64) float rows[8 * kPairBlock];
  for (int64_t first = 0; first < kPanelColumns; first += 8) {
    for (int64_t i = 0; i < num_pairs; i += kPairBlock) {
      const int64_t pairs_left = num_pairs - i;
      const int64_t pairs = pairs_left < kPairBlock ? pairs_left : kPairBlock;
      const int64_t size = 2 * i + 2 * pairs <= depth ? 2 * pairs : depth - 2 * i;
      for (int64_t j = 0; j < 8; ++j) {
        float* row = rows + j * kPairBlock;
        if (first + j < columns) {
          PairNeighbours(w + (first + j) * w_stride + 2 * i, size, row);
        } else {
          memset(row, 0, static_cast<size_t>(pairs) * sizeof(float));
        }
      }
      Transpose(rows, kPairBlock, pairs, 8, slab + i * kPanelColumns + first, kPanelColumns);
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

static void PairBlocked(const Bf16LinearArgs& args, int64_t first_output) {
  alignas(64) float slab[kPairBlock * kPanelColumns];
  const int64_t num_pairs = NumBf16Pairs(args.depth);
  for (int64_t n = 0; n < args.num_rows; n += kPairRowBlock) {
    const int64_t rows_left = args.num_rows - n;
    const int64_t rows = rows_left < kPairRowBlock ? rows_left : kPairRowBlock;
    for (int64_t i = 0; i < num_pairs; i += kPairBlock) {
      const int64_t pairs_left = num_pairs - i;
      const int64_t pairs = pairs_left < kPairBlock ? pairs_left : kPairBlock;
      for (int64_t first = first_output; first < args.num_outputs; first += kPanelColumns) {
        const int64_t left = args.num_outputs - first;
        const int64_t columns = left < kPanelColumns ? left : kPanelColumns;
        const float* panel = slab;
        if (args.packed != nullptr) {
          panel = Lanes(args.packed) + first * num_pairs + i * kPanelColumns;
        } else {
          const int64_t depth_left = args.depth - 2 * i;
          PackPairSlab(args.w + first * args.depth + 2 * i, args.depth, columns,
                       depth_left < 2 * pairs ? depth_left : 2 * pairs, slab);
        }
        const PairOperands operands{.x = Lanes(args.x) + n * num_pairs + i,
                                    .x_stride = num_pairs,
                                    .w = panel,
                                    .panel_stride = 0,
                                    .y = args.y + n * args.y_stride + first,
                                    .y_stride = args.y_stride,
                                    .num_pairs = pairs,
                                    .accumulate = i > 0};
        if (columns == kPanelColumns) {
          PairPanel(operands, rows);
        } else {
          PairPartialPanel(operands, rows, columns);
        }
      }
    }
  }
}

template <int R>
static void PairWide(const Bf16LinearArgs& args, int64_t first_output) {
  const int64_t num_pairs = NumBf16Pairs(args.depth);
  PairTile<R, kPairWidePanels * kPanelColumns / kLanes, Prefetch::kNone>(
      {.x = Lanes(args.x),
       .x_stride = num_pairs,
       .w = Lanes(args.packed) + first_output * num_pairs,
       .panel_stride = num_pairs * kPanelColumns,
       .y = args.y + first_output,
       .y_stride = args.y_stride,
       .num_pairs = num_pairs,
       .accumulate = false});
}

static void LinearBf16(const Bf16LinearArgs& given) {
  Bf16LinearArgs args = given;
  if (args.y_stride == 0) args.y_stride = args.num_outputs;
  int64_t first_output = 0;
  if (args.packed != nullptr && args.num_rows >= 1 && args.num_rows <= kPairWideMaxRows) {
    constexpr int64_t kWideColumns = kPairWidePanels * kPanelColumns;
    for (; first_output + kWideColumns <= args.num_outputs; first_output += kWideColumns) {
      if (args.num_rows == 1) PairWide<1>(args, first_output);
      if (args.num_rows == 2) PairWide<2>(args, first_output);
      if (args.num_rows == 3) PairWide<3>(args, first_output);
    }
  }
  PairBlocked(args, first_output);
  AddBias(args.bias, args.num_rows, args.num_outputs, args.y, args.y_stride);
}

}  // namespace rollcall::ROLLCALL_ISA
