// Attention for one instruction set; see kernels/attention.h. A row is one query of one query
// head; the group's heads of one query are neighbours.
#pragma once

#include "services/model/kernels/attention.h"
#include "services/model/kernels/cpu/gemm_body.h"

namespace rollcall::ROLLCALL_ISA {

#if defined(__AVX512F__)
constexpr int kScoreChunks = 4;  // of sixteen keys, side by side
#else
constexpr int kScoreChunks = 1;
#endif
constexpr int kScoreRows = 4;

struct Chunk {
  const float* keys;  // [D] rows of sixteen keys, block_size apart
  float* scores;      // of the first row; the next row is scores_stride further
  int64_t count;      // keys to read and write, 1..16
};

template <int R, int C, bool kPartial>
ROLLCALL_INLINE void ScoreTile(const float* const* q, const Chunk* chunks, int64_t head_dim,
                               ptrdiff_t key_stride, ptrdiff_t scores_stride) {
  F32x16 acc[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = Set(0.0F);
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    F32x16 keys[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const float* p = chunks[c].keys + d * key_stride;
      keys[c] = kPartial ? LoadFirst(p, chunks[c].count) : Load(p);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F32x16 q_d = Set(q[r][d]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] = Fma(q_d, keys[c], acc[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      float* p = chunks[c].scores + r * scores_stride;
      if (kPartial) {
        StoreFirst(p, chunks[c].count, acc[r][c]);
      } else {
        Store(p, acc[r][c]);
      }
    }
  }
}

template <int C, bool kPartial>
static void ScoreRows(int64_t rows, const float* const* q, const Chunk* chunks, int64_t head_dim,
                      ptrdiff_t key_stride, ptrdiff_t scores_stride) {
  if (rows == 4) ScoreTile<4, C, kPartial>(q, chunks, head_dim, key_stride, scores_stride);
  if (rows == 3) ScoreTile<3, C, kPartial>(q, chunks, head_dim, key_stride, scores_stride);
  if (rows == 2) ScoreTile<2, C, kPartial>(q, chunks, head_dim, key_stride, scores_stride);
  if (rows == 1) ScoreTile<1, C, kPartial>(q, chunks, head_dim, key_stride, scores_stride);
}

// Scores of some rows against keys 0 .. num_keys-1. Where a block is a multiple of sixteen, whole
// vectors are read and written past the last key: into the block's padding and the row's padding.
static void Scores(const AttentionArgs& args, const float* const* q, int64_t rows, int64_t num_keys,
                   float* scores, ptrdiff_t scores_stride) {
  const bool partial = args.block_size % kLanes != 0;
  const auto score = partial ? ScoreRows<1, true> : ScoreRows<1, false>;
  const auto score_wide = partial ? ScoreRows<kScoreChunks, true> : ScoreRows<kScoreChunks, false>;
  Chunk chunks[kScoreChunks];
  int filled = 0;
  for (int64_t first = 0; first < num_keys; first += args.block_size) {
    const float* block = args.k_blocks[first / args.block_size];
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    for (int64_t offset = 0; offset < in_block; offset += kLanes) {
      const int64_t room = args.block_size - offset;
      chunks[filled++] = {block + offset, scores + first + offset, room < kLanes ? room : kLanes};
      if (filled < kScoreChunks) continue;
      score_wide(rows, q, chunks, args.head_dim, args.block_size, scores_stride);
      filled = 0;
    }
  }
  for (int c = 0; c < filled; ++c) {
    score(rows, q, chunks + c, args.head_dim, args.block_size, scores_stride);
  }
}

struct RowStats {
  float max;
  float inverse_sum;
};

// Turns a row of raw scores over `count` keys into exponentials, and zeros from there to `padded`
// (a multiple of sixteen).
static RowStats Exponentials(float* scores, int64_t count, int64_t padded, float scale) {
  const F32x16 scale_all = Set(scale);
  const float lowest = -__builtin_inff();
  F32x16 max = Set(lowest);
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) max = Max(Load(scores + j), max);
  if (j < count) max = Max(LoadFirst(scores + j, count - j, lowest), max);
  const float max_scaled = ReduceMax(max) * scale;
  const F32x16 max_all = Set(max_scaled);
  F32x16 sum = Set(0.0F);
  for (j = 0; j + kLanes <= count; j += kLanes) {
    const F32x16 e = Exp(Sub(Mul(Load(scores + j), scale_all), max_all));
    Store(scores + j, e);
    sum = Add(sum, e);
  }
  if (j < count) {
    const F32x16 e = Exp(Sub(Mul(LoadFirst(scores + j, count - j, lowest), scale_all), max_all));
    Store(scores + j, e);
    sum = Add(sum, e);
    j += kLanes;
  }
  for (; j < padded; j += kLanes) Store(scores + j, Set(0.0F));
  return {max_scaled, 1.0F / ReduceAdd(sum)};
}

// out = (sum over keys j of weights[j] * v[j]) * inverse_sum for V vectors of the head dimension.
template <int R, int V, bool kPartial>
ROLLCALL_INLINE void ValueTile(const AttentionArgs& args, const float* weights,
                               ptrdiff_t weights_stride, int64_t num_keys, ptrdiff_t d,
                               int64_t last, const RowStats* stats, float* const* out) {
  F32x16 acc[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = Set(0.0F);
  }
  for (int64_t first = 0; first < num_keys; first += args.block_size) {
    const float* values = args.v_blocks[first / args.block_size] + d;
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    for (int64_t j = 0; j < in_block; ++j, values += args.v_stride) {
      F32x16 value[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        value[v] = kPartial && v == V - 1 ? LoadFirst(values + v * kLanes, last)
                                          : Load(values + v * kLanes);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const F32x16 weight = Set(weights[r * weights_stride + first + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = Fma(weight, value[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      // Rows of a tile see different numbers of keys; a zero weight behind a row's last key turns
      // -0 into +0. Adding +0 makes every zero the same one.
      const F32x16 result = Add(Mul(acc[r][v], Set(stats[r].inverse_sum)), Set(0.0F));
      float* p = out[r] + d + v * kLanes;
      if (kPartial && v == V - 1) {
        StoreFirst(p, last, result);
      } else {
        Store(p, result);
      }
    }
  }
}

#if defined(__AVX512F__)
constexpr int kValueVectors = 4;
#elif defined(__AVX2__)
constexpr int kValueVectors = 1;
#else
constexpr int kValueVectors = 1;
#endif

template <int R>
static void ValueRows(const AttentionArgs& args, const float* weights, ptrdiff_t weights_stride,
                      int64_t num_keys, const RowStats* stats, float* const* out) {
  int64_t d = 0;
  for (; d + kValueVectors * kLanes <= args.head_dim; d += kValueVectors * kLanes) {
    ValueTile<R, kValueVectors, false>(args, weights, weights_stride, num_keys, d, 0, stats, out);
  }
  for (; d + kLanes <= args.head_dim; d += kLanes) {
    ValueTile<R, 1, false>(args, weights, weights_stride, num_keys, d, 0, stats, out);
  }
  if (d < args.head_dim) {
    ValueTile<R, 1, true>(args, weights, weights_stride, num_keys, d, args.head_dim - d, stats,
                          out);
  }
}

static int64_t RoundUpToLanes(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

static void Attention(const AttentionArgs& args) {
  const int64_t num_rows = args.num_queries * args.group;
  const int64_t all_keys = args.first_position + args.num_queries;
  const ptrdiff_t scores_stride = RoundUpToLanes(all_keys) + kLanes;
  for (int64_t row = 0; row < num_rows; row += kScoreRows) {
    const int64_t rows = num_rows - row < kScoreRows ? num_rows - row : kScoreRows;
    const float* q[kScoreRows];
    float* out[kScoreRows];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t t = (row + r) / args.group;
      const int64_t head = (row + r) % args.group;
      q[r] = args.q + t * args.q_stride + head * args.head_dim;
      out[r] = args.out + t * args.out_stride + head * args.head_dim;
    }
    const int64_t num_keys = args.first_position + (row + rows - 1) / args.group + 1;
    const int64_t padded = RoundUpToLanes(num_keys);
    Scores(args, q, rows, num_keys, args.scratch, scores_stride);
    RowStats stats[kScoreRows];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t t = (row + r) / args.group;
      stats[r] = Exponentials(args.scratch + r * scores_stride, args.first_position + t + 1, padded,
                              args.scale);
      if (args.stats != nullptr) {
        float* p = args.stats + t * args.stats_stride + 2 * ((row + r) % args.group);
        p[0] = stats[r].max;
        p[1] = stats[r].inverse_sum;
      }
    }
    if (rows == 4) ValueRows<4>(args, args.scratch, scores_stride, num_keys, stats, out);
    if (rows == 3) ValueRows<3>(args, args.scratch, scores_stride, num_keys, stats, out);
    if (rows == 2) ValueRows<2>(args, args.scratch, scores_stride, num_keys, stats, out);
    if (rows == 1) ValueRows<1>(args, args.scratch, scores_stride, num_keys, stats, out);
  }
}

// Queries of one gradient tile.
constexpr int64_t kGradRows = kAttentionGradRows;

// p[j] = exp(s[j] * scale - max) * inverse_sum up to the row's own key, dp[j] becomes
// p[j] * (dp[j] - delta) * scale; zeros behind.
static void ScoreGradRow(float* p, float* dp, int64_t count, int64_t padded, float scale,
                         RowStats stats, float delta) {
  const F32x16 scale_all = Set(scale);
  const F32x16 max = Set(stats.max);
  const F32x16 inverse = Set(stats.inverse_sum);
  const F32x16 delta_all = Set(delta);
  int64_t j = 0;
  for (; j < count; j += kLanes) {
    const int64_t left = count - j;
    F32x16 s = Load(p + j);
    F32x16 d = Load(dp + j);
    if (left < kLanes) {
      s = LoadFirst(p + j, left, -__builtin_inff());
      d = LoadFirst(dp + j, left);
    }
    const F32x16 weight = Mul(Exp(Sub(Mul(s, scale_all), max)), inverse);
    Store(p + j, weight);
    Store(dp + j, Mul(Mul(weight, Sub(d, delta_all)), scale_all));
  }
  for (; j < padded; j += kLanes) {
    Store(p + j, Set(0.0F));
    Store(dp + j, Set(0.0F));
  }
}

static float Dot(const float* a, const float* b, int64_t size) {
  F32x16 sum = Set(0.0F);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) sum = Fma(Load(a + i), Load(b + i), sum);
  if (i < size) sum = Fma(LoadFirst(a + i, size - i), LoadFirst(b + i, size - i), sum);
  return ReduceAdd(sum);
}

static void AttentionGrad(const AttentionGradArgs& args) {
  const int64_t padded_tokens = RoundUpToLanes(args.num_tokens);
  float* k_t = args.scratch;  // [D][T]
  float* v_t = k_t + args.head_dim * padded_tokens;
  float* p = v_t + args.head_dim * padded_tokens;  // [kGradRows][T]
  float* ds = p + kGradRows * padded_tokens;
  Transpose(args.k, args.kv_stride, args.head_dim, args.num_tokens, k_t, padded_tokens);
  Transpose(args.v, args.kv_stride, args.head_dim, args.num_tokens, v_t, padded_tokens);
  for (int64_t d = 0; d < args.head_dim; ++d) {
    for (int64_t j = args.num_tokens; j < padded_tokens; ++j) {
      k_t[d * padded_tokens + j] = 0.0F;
      v_t[d * padded_tokens + j] = 0.0F;
    }
  }
  for (int64_t head = 0; head < args.group; ++head) {
    const int64_t column = head * args.head_dim;
    for (int64_t t = 0; t < args.num_tokens; t += kGradRows) {
      const int64_t left = args.num_tokens - t;
      const int64_t rows = left < kGradRows ? left : kGradRows;
      const int64_t keys = t + rows;
      const int64_t padded = RoundUpToLanes(keys);
      const ptrdiff_t at = t * args.q_stride + column;
      Gemm<Order::kRows>({args.q + at, args.q_stride, k_t, padded_tokens, p, padded_tokens}, rows,
                         padded, args.head_dim, false);
      Gemm<Order::kRows>({args.dout + at, args.q_stride, v_t, padded_tokens, ds, padded_tokens},
                         rows, padded, args.head_dim, false);
      for (int64_t r = 0; r < rows; ++r) {
        const float* stats = args.stats + (t + r) * args.stats_stride + 2 * head;
        const float delta = Dot(args.dout + at + r * args.q_stride,
                                args.out + at + r * args.q_stride, args.head_dim);
        ScoreGradRow(p + r * padded_tokens, ds + r * padded_tokens, t + r + 1, padded, args.scale,
                     {stats[0], stats[1]}, delta);
      }
      Gemm<Order::kRows>({ds, padded_tokens, args.k, args.kv_stride, args.dq + at, args.q_stride},
                         rows, args.head_dim, keys, false);
      Gemm<Order::kColumns>(
          {ds, padded_tokens, args.q + at, args.q_stride, args.dk, args.kv_stride}, keys,
          args.head_dim, rows, true);
      Gemm<Order::kColumns>(
          {p, padded_tokens, args.dout + at, args.q_stride, args.dv, args.kv_stride}, keys,
          args.head_dim, rows, true);
    }
  }
}

}  // namespace rollcall::ROLLCALL_ISA
