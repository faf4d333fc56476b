// Attention for one instruction set; see kernels/attention.h. A row is one query of one query head;
// up to four rows are computed side by side. Rows of one tile share their kv head where there are
// enough of them (prefill, training, large groups); else, in a decode step, they come from
// different kv heads, because a single row would wait for every addition.
#pragma once

#include "services/model/kernels/attention.h"
#include "services/model/kernels/cpu/gemm_body.h"
#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/cpu/math_body.h"

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
  int64_t first_key;  // of its window
  int64_t num_keys;   // counted from the start of the sequence
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

// The part of a block that a walk over the keys from `begin` on visits.
struct BlockWalk {
  int64_t first;   // position of the block's first key
  int64_t offset;  // where the walk enters the block
};

static BlockWalk FirstBlock(int64_t begin, int64_t block_size) {
  const int64_t first = begin / block_size * block_size;
  return {first, begin - first};
}

// Scores of R rows against keys begin .. num_keys-1, and some before them; `begin` is a multiple
// of sixteen. Where a block is a multiple of sixteen, whole
// vectors are read and written past the last key: into the block's padding and the row's padding.
template <int R, KvHead kHead, bool kPartial>
static void Scores(const AttentionArgs& args, const Row* rows, int64_t begin, int64_t num_keys,
                   float* scores, ptrdiff_t scores_stride) {
  Chunk chunks[kScoreChunks];
  int filled = 0;
  const BlockWalk walk = FirstBlock(begin, args.block_size);
  for (int64_t first = walk.first; first < num_keys; first += args.block_size) {
    const float* block = args.k_blocks[first / args.block_size];
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    const int64_t start = first == walk.first ? walk.offset / kLanes * kLanes : 0;
    for (int64_t offset = start; offset < in_block; offset += kLanes) {
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

// cap * tanh(s * scale / cap) for the scores of keys begin .. count-1.
static void CapScores(float* scores, int64_t begin, int64_t count, float scale, float softcap) {
  const F32x16 cap = Set(softcap);
  const F32x16 scale_all = Set(scale);
  for (int64_t j = begin; j < count; j += kLanes) {
    const F32x16 s = LoadUpTo(scores + j, count - j);
    StoreUpTo(scores + j, count - j, Mul(cap, Tanh(Div(Mul(s, scale_all), cap))));
  }
}

// Turns a row of raw scores over keys begin .. count-1 into exponentials, and zeros from there to
// `padded`. begin and padded are multiples of sixteen.
static RowStats Exponentials(float* scores, int64_t begin, int64_t count, int64_t padded,
                             float scale) {
  const F32x16 scale_all = Set(scale);
  const float lowest = -__builtin_inff();
  F32x16 max = Set(lowest);
  int64_t j = begin;
  for (; j + kLanes <= count; j += kLanes) max = Max(Load(scores + j), max);
  if (j < count) max = Max(LoadFirst(scores + j, count - j, lowest), max);
  const float max_scaled = ReduceMax(max) * scale;
  const F32x16 max_all = Set(max_scaled);
  F32x16 sum = Set(0.0F);
  for (j = begin; j + kLanes <= count; j += kLanes) {
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

// out = (sum over keys j from `begin` of weights[j] * v[j]) * inverse_sum for V vectors of the head
// dimension from d on; `last` elements of the last vector are real.
template <int R, int V, KvHead kHead, bool kPartial>
ROLLCALL_INLINE void ValueTile(const AttentionArgs& args, const Row* rows, const RowStats* stats,
                               const float* weights, ptrdiff_t weights_stride, int64_t begin,
                               int64_t num_keys, ptrdiff_t d, int64_t last) {
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
  const BlockWalk walk = FirstBlock(begin, args.block_size);
  for (int64_t first = walk.first; first < num_keys; first += args.block_size) {
    const int64_t start = first == walk.first ? walk.offset : 0;
    const float* values = args.v_blocks[first / args.block_size] + d + start * args.v_stride;
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    for (int64_t j = start; j < in_block; ++j, values += args.v_stride) {
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
  int64_t first_key = rows[0].first_key;
  for (int r = 0; r < R; ++r) {
    if (rows[r].num_keys > num_keys) num_keys = rows[r].num_keys;
    if (rows[r].first_key < first_key) first_key = rows[r].first_key;
  }
  const int64_t begin = first_key / kLanes * kLanes;
  if (args.block_size % kLanes == 0) {
    Scores<R, kHead, false>(args, rows, begin, num_keys, args.scratch, scores_stride);
  } else {
    Scores<R, kHead, true>(args, rows, begin, num_keys, args.scratch, scores_stride);
  }
  RowStats stats[R];
  for (int r = 0; r < R; ++r) {
    float* scores = args.scratch + r * scores_stride;
    float scale = args.scale;
    if (args.softcap > 0) {
      CapScores(scores, begin, rows[r].num_keys, args.scale, args.softcap);
      scale = 1.0F;
    }
    for (int64_t j = begin; j < rows[r].first_key; ++j) scores[j] = -__builtin_inff();
    stats[r] = Exponentials(scores, begin, rows[r].num_keys, RoundUpToLanes(num_keys), scale);
    if (rows[r].stats != nullptr) {
      rows[r].stats[0] = stats[r].max;
      rows[r].stats[1] = stats[r].inverse_sum;
    }
  }
  const auto values = [&]<int V, bool kPartial>(int64_t d, int64_t last) {
    ValueTile<R, V, kHead, kPartial>(args, rows, stats, args.scratch, scores_stride, begin,
                                     num_keys, d, last);
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
  const int64_t num_keys = args.first_position + query + 1;
  const bool is_windowed = args.window > 0 && num_keys > args.window;
  return {args.q + query * args.q_stride + head * args.head_dim,
          args.out + query * args.out_stride + head * args.head_dim,
          args.stats == nullptr ? nullptr : args.stats + 2 * (query * args.num_heads + head),
          args.k_offset + kv_head * args.k_head_stride,
          args.v_offset + kv_head * args.v_head_stride,
          is_windowed ? num_keys - args.window : 0,
          num_keys};
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

// What turns raw scores into those of the softmax.
struct ScoreLaw {
  float scale;
  float softcap;
};

// p[j] = exp(t[j] - max) * inverse_sum for keys first .. count-1, where t is the scaled and capped
// score, and dp[j] becomes the gradient of the raw score: p[j] * (dp[j] - delta) times the slope of
// t. Zeros before `first`, from `begin` on, and from `count` to `padded`.
template <bool kCapped>
static void ScoreGradRow(float* p, float* dp, int64_t begin, int64_t first, int64_t count,
                         int64_t padded, ScoreLaw law, RowStats stats, float delta) {
  const F32x16 scale_all = Set(law.scale);
  const F32x16 cap = Set(law.softcap);
  const F32x16 max = Set(stats.max);
  const F32x16 inverse = Set(stats.inverse_sum);
  const F32x16 delta_all = Set(delta);
  const float lowest = -__builtin_inff();
  if (!kCapped) {
    for (int64_t j = begin; j < first; ++j) p[j] = lowest;
  }
  int64_t j = begin;
  for (; j < count; j += kLanes) {
    const int64_t left = count - j;
    F32x16 s = Load(p + j);
    F32x16 d = Load(dp + j);
    if (left < kLanes) {
      s = LoadFirst(p + j, left, kCapped ? 0.0F : lowest);
      d = LoadFirst(dp + j, left);
    }
    F32x16 slope = scale_all;
    F32x16 t = Mul(s, scale_all);
    if (kCapped) {
      const F32x16 tanh = Tanh(Div(t, cap));
      t = Mul(cap, tanh);
      slope = Mul(Sub(Set(1.0F), Mul(tanh, tanh)), scale_all);
    }
    const F32x16 weight = Mul(Exp(Sub(t, max)), inverse);
    Store(p + j, weight);
    Store(dp + j, Mul(Mul(weight, Sub(d, delta_all)), slope));
  }
  if (kCapped) {
    // Outside the row's keys the cap gave a finite score.
    for (int64_t i = begin; i < first; ++i) p[i] = dp[i] = 0.0F;
    for (int64_t i = count; i < j; ++i) p[i] = dp[i] = 0.0F;
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
      // The first key that any row of the tile sees.
      const int64_t first_key = args.window > 0 && t + 1 > args.window ? t + 1 - args.window : 0;
      const int64_t begin = first_key / kLanes * kLanes;
      const ptrdiff_t at = t * args.q_stride + column;
      Gemm<Order::kRows>(
          {args.q + at, args.q_stride, k_t + begin, padded_tokens, p + begin, padded_tokens}, rows,
          padded - begin, args.head_dim, false);
      Gemm<Order::kRows>(
          {args.dout + at, args.q_stride, v_t + begin, padded_tokens, ds + begin, padded_tokens},
          rows, padded - begin, args.head_dim, false);
      for (int64_t r = 0; r < rows; ++r) {
        const float* stats = args.stats + (t + r) * args.stats_stride + 2 * head;
        const float delta = Dot(args.dout + at + r * args.q_stride,
                                args.out + at + r * args.q_stride, args.head_dim);
        const int64_t count = t + r + 1;
        const int64_t first = args.window > 0 && count > args.window ? count - args.window : 0;
        const auto row_grad = args.softcap > 0 ? ScoreGradRow<true> : ScoreGradRow<false>;
        row_grad(p + r * padded_tokens, ds + r * padded_tokens, begin, first, count, padded,
                 {args.scale, args.softcap}, {stats[0], stats[1]}, delta);
      }
      const ptrdiff_t kv_at = begin * args.kv_stride;
      Gemm<Order::kRows>(
          {ds + begin, padded_tokens, args.k + kv_at, args.kv_stride, args.dq + at, args.q_stride},
          rows, args.head_dim, keys - begin, false);
      Gemm<Order::kColumns>(
          {ds + begin, padded_tokens, args.q + at, args.q_stride, args.dk + kv_at, args.kv_stride},
          keys - begin, args.head_dim, rows, true);
      Gemm<Order::kColumns>({p + begin, padded_tokens, args.dout + at, args.q_stride,
                             args.dv + kv_at, args.kv_stride},
                            keys - begin, args.head_dim, rows, true);
    }
  }
}

}  // namespace rollcall::ROLLCALL_ISA
