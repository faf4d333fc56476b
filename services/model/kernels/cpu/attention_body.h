// Attention for one instruction set; see kernels/attention.h. A row is one query of one query head;
// up to four rows are computed side by side. Rows of one tile share their kv head where there are
// enough of them (prefill, training, large groups); else, in a decode step, they come from
// different kv heads, because a single row would wait for every addition.
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

static int64_t RoundUpToLanes(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Who the rows of a tile are.
struct Row {
  const float* q;
  float* out;
  float* stats;        // or null
  ptrdiff_t k_offset;  // of the row's kv head in a block
  ptrdiff_t v_offset;
  int64_t num_keys;
};

enum class KvHead { kShared, kOwn };

struct Chunk {
  const float* keys;  // of kv head 0: [D] rows of sixteen keys, block_size apart
  float* scores;      // of the first row; the next row is scores_stride further
  int64_t count;      // keys to read and write, 1..16
};

template <int R, int C, KvHead kHead, bool kPartial>
ROLLCALL_INLINE void ScoreTile(const Row* rows, const Chunk* chunks, int64_t head_dim,
                               ptrdiff_t key_stride, ptrdiff_t scores_stride) {
  F32x16 acc[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = Set(0.0F);
  }
  const auto load = [&](int r, int c, int64_t d) __attribute__((always_inline)) {
    const float* p = chunks[c].keys + rows[r].k_offset + d * key_stride;
    return kPartial ? LoadFirst(p, chunks[c].count) : Load(p);
  };
  for (int64_t d = 0; d < head_dim; ++d) {
    F32x16 shared[C];
    if (kHead == KvHead::kShared) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) shared[c] = load(0, c, d);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F32x16 q_d = Set(rows[r].q[d]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        acc[r][c] = Fma(q_d, kHead == KvHead::kShared ? shared[c] : load(r, c, d), acc[r][c]);
      }
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

// Scores of R rows against keys 0 .. num_keys-1. Where a block is a multiple of sixteen, whole
// vectors are read and written past the last key: into the block's padding and the row's padding.
template <int R, KvHead kHead, bool kPartial>
static void Scores(const AttentionArgs& args, const Row* rows, int64_t num_keys, float* scores,
                   ptrdiff_t scores_stride) {
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
      ScoreTile<R, kScoreChunks, kHead, kPartial>(rows, chunks, args.head_dim, args.block_size,
                                                  scores_stride);
      filled = 0;
    }
  }
  for (int c = 0; c < filled; ++c) {
    ScoreTile<R, 1, kHead, kPartial>(rows, chunks + c, args.head_dim, args.block_size,
                                     scores_stride);
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

// out = (sum over keys j of weights[j] * v[j]) * inverse_sum for V vectors of the head dimension
// from d on; `last` elements of the last vector are real.
template <int R, int V, KvHead kHead, bool kPartial>
ROLLCALL_INLINE void ValueTile(const AttentionArgs& args, const Row* rows, const RowStats* stats,
                               const float* weights, ptrdiff_t weights_stride, int64_t num_keys,
                               ptrdiff_t d, int64_t last) {
  F32x16 acc[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = Set(0.0F);
  }
  const auto load = [&](const float* values, int r, int v) __attribute__((always_inline)) {
    const float* p = values + rows[r].v_offset + v * kLanes;
    return kPartial && v == V - 1 ? LoadFirst(p, last) : Load(p);
  };
  for (int64_t first = 0; first < num_keys; first += args.block_size) {
    const float* values = args.v_blocks[first / args.block_size] + d;
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    for (int64_t j = 0; j < in_block; ++j, values += args.v_stride) {
      F32x16 shared[V];
      if (kHead == KvHead::kShared) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) shared[v] = load(values, 0, v);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const F32x16 weight = Set(weights[r * weights_stride + first + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          acc[r][v] =
              Fma(weight, kHead == KvHead::kShared ? shared[v] : load(values, r, v), acc[r][v]);
        }
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
      float* p = rows[r].out + d + v * kLanes;
      if (kPartial && v == V - 1) {
        StoreFirst(p, last, result);
      } else {
        Store(p, result);
      }
    }
  }
}

template <int R, KvHead kHead>
static void AttendTile(const AttentionArgs& args, const Row* rows, ptrdiff_t scores_stride) {
  int64_t num_keys = 0;
  for (int r = 0; r < R; ++r) {
    if (rows[r].num_keys > num_keys) num_keys = rows[r].num_keys;
  }
  if (args.block_size % kLanes == 0) {
    Scores<R, kHead, false>(args, rows, num_keys, args.scratch, scores_stride);
  } else {
    Scores<R, kHead, true>(args, rows, num_keys, args.scratch, scores_stride);
  }
  RowStats stats[R];
  for (int r = 0; r < R; ++r) {
    stats[r] = Exponentials(args.scratch + r * scores_stride, rows[r].num_keys,
                            RoundUpToLanes(num_keys), args.scale);
    if (rows[r].stats != nullptr) {
      rows[r].stats[0] = stats[r].max;
      rows[r].stats[1] = stats[r].inverse_sum;
    }
  }
  const auto values = [&]<int V, bool kPartial>(int64_t d, int64_t last) {
    ValueTile<R, V, kHead, kPartial>(args, rows, stats, args.scratch, scores_stride, num_keys, d,
                                     last);
  };
  int64_t d = 0;
#if defined(__AVX512F__)
  for (; d + 4 * kLanes <= args.head_dim; d += 4 * kLanes) {
    values.template operator()<4, false>(d, 0);
  }
  for (; d + 2 * kLanes <= args.head_dim; d += 2 * kLanes) {
    values.template operator()<2, false>(d, 0);
  }
#endif
  for (; d + kLanes <= args.head_dim; d += kLanes) values.template operator()<1, false>(d, 0);
  if (d < args.head_dim) values.template operator()<1, true>(d, args.head_dim - d);
}

template <KvHead kHead>
static void AttendRows(const AttentionArgs& args, const Row* rows, int64_t count,
                       ptrdiff_t scores_stride) {
  if (count == 4) AttendTile<4, kHead>(args, rows, scores_stride);
  if (count == 3) AttendTile<3, kHead>(args, rows, scores_stride);
  if (count == 2) AttendTile<2, kHead>(args, rows, scores_stride);
  if (count == 1) AttendTile<1, kHead>(args, rows, scores_stride);
}

static Row MakeRow(const AttentionArgs& args, int64_t query, int64_t head) {
  const int64_t kv_head = head / (args.num_heads / args.num_kv_heads);
  return {args.q + query * args.q_stride + head * args.head_dim,
          args.out + query * args.out_stride + head * args.head_dim,
          args.stats == nullptr ? nullptr : args.stats + 2 * (query * args.num_heads + head),
          kv_head * args.k_head_stride,
          kv_head * args.v_head_stride,
          args.first_position + query + 1};
}

static void Attention(const AttentionArgs& args) {
  const ptrdiff_t scores_stride = RoundUpToLanes(args.first_position + args.num_queries) + kLanes;
  const int64_t group = args.num_heads / args.num_kv_heads;
  Row rows[kScoreRows];
  int count = 0;
  if (args.num_queries * group < kScoreRows) {
    for (int64_t query = 0; query < args.num_queries; ++query) {
      for (int64_t head = 0; head < args.num_heads; ++head) {
        rows[count++] = MakeRow(args, query, head);
        if (count < kScoreRows) continue;
        AttendRows<KvHead::kOwn>(args, rows, count, scores_stride);
        count = 0;
      }
    }
    AttendRows<KvHead::kOwn>(args, rows, count, scores_stride);
    return;
  }
  for (int64_t kv_head = 0; kv_head < args.num_kv_heads; ++kv_head) {
    for (int64_t query = 0; query < args.num_queries; ++query) {
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        rows[count++] = MakeRow(args, query, head);
        if (count < kScoreRows) continue;
        AttendRows<KvHead::kShared>(args, rows, count, scores_stride);
        count = 0;
      }
    }
    AttendRows<KvHead::kShared>(args, rows, count, scores_stride);
    count = 0;
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
