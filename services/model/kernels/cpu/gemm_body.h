// The one matrix product of the CPU kernels: C = A * B, or C += A * B. Every element of C is one
// accumulator to which the products are added in the order of k, so its bits depend on its own row
// of A and column of B alone: not on the number of rows, the tile shapes or the blocking of k.
// Storing an accumulator and loading it again loses nothing.
//
// Letters: R rows of C, V vectors of sixteen columns of C.
#pragma once

#include "services/model/kernels/cpu/simd.h"

namespace rollcall::ROLLCALL_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows = 12;  // 24 accumulators, 2 vectors of B and 1 broadcast in 32 registers
constexpr int kTileVectors = 2;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;  // 12 accumulators, 2 of B and 1 broadcast in 16 registers
constexpr int kTileVectors = 1;
#else
constexpr int kTileRows = 2;
constexpr int kTileVectors = 1;
#endif

// How A is stored: row r at a + r * stride, or column k at a + k * stride.
enum class Order { kRows, kColumns };

struct GemmOperands {
  const float* a;
  ptrdiff_t a_stride;
  const float* b;  // row k at b + k * b_stride
  ptrdiff_t b_stride;
  float* c;  // row r at c + r * c_stride
  ptrdiff_t c_stride;
};

// The first tile of a strip brings B into the cache, often from memory, where the machine's own
// prefetching falls behind; the tiles after it find it there.
enum class Prefetch { kNone, kAhead };
constexpr int kPrefetchRows = 16;

// `last` columns of the last vector are real; the others are neither read nor written.
template <int R, int V, Order kOrder, bool kPartial, Prefetch kPrefetch>
ROLLCALL_INLINE void GemmTile(const GemmOperands& o, int64_t depth, bool accumulate, int64_t last) {
  F32x16 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const float* c = o.c + r * o.c_stride + v * kLanes;
      if (!accumulate) {
        acc[r][v] = Set(0.0F);
      } else if (kPartial && v == V - 1) {
        acc[r][v] = LoadFirst(c, last);
      } else {
        acc[r][v] = Load(c);
      }
    }
  }
  const float* b = o.b;
  for (int64_t k = 0; k < depth; ++k, b += o.b_stride) {
    if (kPrefetch == Prefetch::kAhead) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        __builtin_prefetch(b + kPrefetchRows * o.b_stride + v * kLanes);
      }
    }
    F32x16 b_k[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      b_k[v] = kPartial && v == V - 1 ? LoadFirst(b + v * kLanes, last) : Load(b + v * kLanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32x16 a =
          Set(kOrder == Order::kRows ? o.a[r * o.a_stride + k] : o.a[k * o.a_stride + r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = Fma(a, b_k[v], acc[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* c = o.c + r * o.c_stride + v * kLanes;
      if (kPartial && v == V - 1) {
        StoreFirst(c, last, acc[r][v]);
      } else {
        Store(c, acc[r][v]);
      }
    }
  }
}

template <int V, Order kOrder, bool kPartial, Prefetch kPrefetch, int R = kTileRows>
ROLLCALL_INLINE void GemmRows(int64_t rows, const GemmOperands& o, int64_t depth, bool accumulate,
                              int64_t last) {
  if (rows == R) return GemmTile<R, V, kOrder, kPartial, kPrefetch>(o, depth, accumulate, last);
  if constexpr (R > 1) {
    GemmRows<V, kOrder, kPartial, kPrefetch, R - 1>(rows, o, depth, accumulate, last);
  }
}

// One strip of V vectors over all rows, in tiles of nearly equal height.
template <int V, Order kOrder, bool kPartial, Prefetch kPrefetch = Prefetch::kNone>
static void GemmStrip(const GemmOperands& operands, int64_t rows, int64_t depth, bool accumulate,
                      int64_t last) {
  GemmOperands o = operands;
  bool is_first = true;
  for (int64_t tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    const int64_t height = (rows + tiles - 1) / tiles;
    if (kPrefetch == Prefetch::kAhead && is_first) {
      GemmRows<V, kOrder, kPartial, kPrefetch>(height, o, depth, accumulate, last);
    } else {
      GemmRows<V, kOrder, kPartial, Prefetch::kNone>(height, o, depth, accumulate, last);
    }
    is_first = false;
    o.a += kOrder == Order::kRows ? height * o.a_stride : height;
    o.c += height * o.c_stride;
    rows -= height;
  }
}

// C of any width.
template <Order kOrder>
static void Gemm(const GemmOperands& operands, int64_t rows, int64_t columns, int64_t depth,
                 bool accumulate) {
  GemmOperands o = operands;
  constexpr int64_t kStripColumns = kTileVectors * kLanes;
  for (; columns >= kStripColumns; columns -= kStripColumns) {
    GemmStrip<kTileVectors, kOrder, false>(o, rows, depth, accumulate, 0);
    o.b += kStripColumns;
    o.c += kStripColumns;
  }
  if (columns == 0) return;
  if (columns > kLanes) {
    GemmStrip<kTileVectors, kOrder, true>(o, rows, depth, accumulate, columns - kLanes);
  } else {
    GemmStrip<1, kOrder, true>(o, rows, depth, accumulate, columns);
  }
}

}  // namespace rollcall::ROLLCALL_ISA
