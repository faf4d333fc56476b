// Linear for one instruction set; see kernels/linear.h.
#pragma once

#include "services/model/kernels/cpu/gemm_body.h"
#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/linear.h"

namespace rollcall::ROLLCALL_ISA {

// Blocking: a slab of a panel (64 KiB) and the rows it meets (480 KiB) stay in the L2 cache.
constexpr int64_t kDepthBlock = 512;
constexpr int64_t kRowBlock = 240;

// Few rows have too few accumulators in one panel to hide the latency of an addition, so four
// panels are read side by side.
constexpr int kWidePanels = 4;
constexpr int kWideMaxRows = 3;

template <int R>
static void WideTile(const LinearArgs& args, const float* panels, int64_t first_output) {
  constexpr int kVectors = kWidePanels * 2;
  const ptrdiff_t panel_stride = args.depth * kPanelColumns;
  F32x16 acc[R][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v] = Set(0.0F);
  }
  for (int64_t k = 0; k < args.depth; ++k) {
    const float* b = panels + k * kPanelColumns;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F32x16 b_k = Load(b + (v / 2) * panel_stride + (v % 2) * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][v] = Fma(Set(args.x[r * args.depth + k]), b_k, acc[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Store(args.y + r * args.y_stride + first_output + v * kLanes, acc[r][v]);
    }
  }
}

// One panel (or a slab of it) times some rows.
static void LinearPanel(const GemmOperands& operands, int64_t rows, int64_t columns, int64_t depth,
                        bool accumulate) {
  GemmOperands o = operands;
  if (columns == kPanelColumns) {
    for (int64_t done = 0; done < kPanelColumns; done += kTileVectors * kLanes) {
      GemmStrip<kTileVectors, Order::kRows, false, Prefetch::kAhead>(o, rows, depth, accumulate, 0);
      o.b += kTileVectors * kLanes;
      o.c += kTileVectors * kLanes;
    }
    return;
  }
  Gemm<Order::kRows>(o, rows, columns, depth, accumulate);
}

static void PackSlab(const float* w, int64_t w_stride, int64_t columns, int64_t depth,
                     float* slab) {
  Transpose(w, w_stride, depth, columns, slab, kPanelColumns);
  if (columns == kPanelColumns) return;
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t j = columns; j < kPanelColumns; ++j) slab[k * kPanelColumns + j] = 0.0F;
  }
}

static void PackLinear(const float* w, int64_t num_outputs, int64_t depth, float* packed) {
  for (int64_t first = 0; first < num_outputs; first += kPanelColumns) {
    const int64_t left = num_outputs - first;
    PackSlab(w + first * depth, depth, left < kPanelColumns ? left : kPanelColumns, depth,
             packed + first * depth);
  }
}

// Panels from `first_output` on, rows and depth in blocks that fit the cache.
static void LinearBlocked(const LinearArgs& args, int64_t first_output) {
  alignas(64) float slab[kDepthBlock * kPanelColumns];
  for (int64_t n = 0; n < args.num_rows; n += kRowBlock) {
    const int64_t rows_left = args.num_rows - n;
    const int64_t rows = rows_left < kRowBlock ? rows_left : kRowBlock;
    for (int64_t k = 0; k < args.depth; k += kDepthBlock) {
      const int64_t depth_left = args.depth - k;
      const int64_t depth = depth_left < kDepthBlock ? depth_left : kDepthBlock;
      for (int64_t first = first_output; first < args.num_outputs; first += kPanelColumns) {
        const int64_t left = args.num_outputs - first;
        const int64_t columns = left < kPanelColumns ? left : kPanelColumns;
        const float* panel = slab;
        if (args.packed != nullptr) {
          panel = args.packed + first * args.depth + k * kPanelColumns;
        } else {
          PackSlab(args.w + first * args.depth + k, args.depth, columns, depth, slab);
        }
        LinearPanel({.a = args.x + n * args.depth + k,
                     .a_stride = args.depth,
                     .b = panel,
                     .b_stride = kPanelColumns,
                     .c = args.y + n * args.y_stride + first,
                     .c_stride = args.y_stride},
                    rows, columns, depth, k > 0);
      }
    }
  }
}

// Where there is one.
static void AddBias(const float* bias, int64_t num_rows, int64_t num_outputs, float* y,
                    ptrdiff_t y_stride) {
  if (bias == nullptr) return;
  for (int64_t n = 0; n < num_rows; ++n, y += y_stride) {
    for (int64_t o = 0; o < num_outputs; o += kLanes) {
      const int64_t left = num_outputs - o;
      StoreUpTo(y + o, left, Add(LoadUpTo(y + o, left), LoadUpTo(bias + o, left)));
    }
  }
}

static void Linear(const LinearArgs& given) {
  LinearArgs args = given;
  if (args.y_stride == 0) args.y_stride = args.num_outputs;
  int64_t first_output = 0;
  if (args.packed != nullptr && args.num_rows >= 1 && args.num_rows <= kWideMaxRows) {
    constexpr int64_t kWideColumns = kWidePanels * kPanelColumns;
    for (; first_output + kWideColumns <= args.num_outputs; first_output += kWideColumns) {
      const float* panels = args.packed + first_output * args.depth;
      if (args.num_rows == 1) WideTile<1>(args, panels, first_output);
      if (args.num_rows == 2) WideTile<2>(args, panels, first_output);
      if (args.num_rows == 3) WideTile<3>(args, panels, first_output);
    }
  }
  LinearBlocked(args, first_output);
  AddBias(args.bias, args.num_rows, args.num_outputs, args.y, args.y_stride);
}

}  // namespace rollcall::ROLLCALL_ISA
