// Attention for one instruction set; see kernels/attention.h. A row is one query of one query head;
// up to four rows are computed side by side. Rows of a tile share their kv head, and what is
// read of it, where there are enough of them (prefill, training, large groups); else, in a decode
// step, a tile has several kv heads, because a single row would wait for every addition.
#pragma once

#include "services/model/kernels/cpu/attention_scores_body.h"
#include "services/model/kernels/cpu/math_body.h"

namespace rollcall::ROLLCALL_ISA {

constexpr int64_t kValuesAhead = 32;

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

// Where a ValueTile is in the head dimension.
struct ValuePlace {
  int64_t first;  // number of `out`
  int64_t size;   // numbers; all of them unless the tile is partial
};

// out = (sum over keys j from `begin` of weights[j] * v[j]) * inverse_sum for V vectors of lanes of
// the head dimension. Lane i of a vector of pairs holds numbers i and half + i.
template <typename Kv, int R, int S, int V, bool kPartial>
ROLLCALL_INLINE void ValueTile(const AttentionArgs& args, const Row* rows, const RowStats* stats,
                               const float* weights, ptrdiff_t weights_stride, int64_t begin,
                               int64_t num_keys, ValuePlace place) {
  constexpr int N = Kv::kPerLane;
  const int64_t lanes = kPartial ? (place.size + N - 1) / N : kLanes;
  F32x16 acc[R][V][N];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) acc[r][v][n] = Set(0.0F);
    }
  }
  const auto load = [&](const float* values, int r, int v) __attribute__((always_inline)) {
    const float* p = values + rows[r].v_offset + v * kLanes;
    return kPartial ? LoadUpTo(p, lanes) : Load(p);
  };
  const BlockWalk walk = FirstBlock(begin, args.block_size);
  for (int64_t first = walk.first; first < num_keys; first += args.block_size) {
    const int64_t start = first == walk.first ? walk.offset : 0;
    const float* values =
        args.v_blocks[first / args.block_size] + place.first / N + start * args.v_stride;
    const int64_t left = num_keys - first;
    const int64_t in_block = left < args.block_size ? left : args.block_size;
    const int64_t later = first + kValuesAhead;
    const float* ahead = values;
    if (later < num_keys) ahead = args.v_blocks[later / args.block_size] + place.first / N;
    for (int64_t j = start; j < in_block; ++j, values += args.v_stride, ahead += args.v_stride) {
      F32x16 value[V];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        if (r % S == 0) {
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            value[v] = load(values, r, v);
            __builtin_prefetch(ahead + rows[r].v_offset + v * kLanes, 0, 2);
          }
        }
        const F32x16 weight = Set(weights[r * weights_stride + first + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) {
            acc[r][v][n] = Fma(weight, Kv::Number(value[v], n), acc[r][v][n]);
          }
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        // Rows of a tile see different numbers of keys; a zero weight behind a row's last key turns
        // -0 into +0. Adding +0 makes every zero the same one.
        const F32x16 result = Add(Mul(acc[r][v][n], Set(stats[r].inverse_sum)), Set(0.0F));
        float* p = rows[r].out + place.first + v * N * kLanes + n * lanes;
        if (!kPartial) {
          Store(p, result);
        } else {
          const int64_t count = place.size - n * lanes;
          if (count > 0) StoreUpTo(p, count < lanes ? count : lanes, result);
        }
      }
    }
  }
}

template <typename Kv, int R, int S>
static void AttendTile(const AttentionArgs& args, const Row* rows, ptrdiff_t scores_stride) {
  int64_t num_keys = 0;
  int64_t first_key = rows[0].first_key;
  for (int r = 0; r < R; ++r) {
    if (rows[r].num_keys > num_keys) num_keys = rows[r].num_keys;
    if (rows[r].first_key < first_key) first_key = rows[r].first_key;
  }
  const int64_t begin = first_key / kLanes * kLanes;
  if (args.block_size % kLanes == 0) {
    Scores<Kv, R, S, false>(args, rows, begin, num_keys, args.scratch, scores_stride);
  } else {
    Scores<Kv, R, S, true>(args, rows, begin, num_keys, args.scratch, scores_stride);
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
    if (rows[r].received != nullptr) {
      const F32x16 inverse = Set(stats[r].inverse_sum);
      for (int64_t j = begin; j < rows[r].num_keys; j += kLanes) {
        const int64_t left = rows[r].num_keys - j;
        float* received = rows[r].received + j;
        StoreUpTo(received, left,
                  Add(LoadUpTo(received, left), Mul(LoadUpTo(scores + j, left), inverse)));
      }
    }
  }
  const auto values = [&]<int V, bool kPartial>(ValuePlace place) {
    ValueTile<Kv, R, S, V, kPartial>(args, rows, stats, args.scratch, scores_stride, begin,
                                     num_keys, place);
  };
  constexpr int64_t kVector = kLanes * Kv::kPerLane;
  int64_t d = 0;
#if defined(__AVX512F__)
  if constexpr (Kv::kPerLane == 1) {
    for (; d + 4 * kVector <= args.head_dim; d += 4 * kVector) {
      values.template operator()<4, false>({d, 4 * kVector});
    }
  }
  for (; d + 2 * kVector <= args.head_dim; d += 2 * kVector) {
    values.template operator()<2, false>({d, 2 * kVector});
  }
#endif
  for (; d + kVector <= args.head_dim; d += kVector) {
    values.template operator()<1, false>({d, kVector});
  }
  if (d < args.head_dim) values.template operator()<1, true>({d, args.head_dim - d});
}

// Rows that all share a kv head, or that have one each.
template <typename Kv, bool kIsShared>
static void AttendRows(const AttentionArgs& args, const Row* rows, int64_t count,
                       ptrdiff_t scores_stride) {
  if (count == 4) AttendTile<Kv, 4, kIsShared ? 4 : 1>(args, rows, scores_stride);
  if (count == 3) AttendTile<Kv, 3, kIsShared ? 3 : 1>(args, rows, scores_stride);
  if (count == 2) AttendTile<Kv, 2, kIsShared ? 2 : 1>(args, rows, scores_stride);
  if (count == 1) AttendTile<Kv, 1, 1>(args, rows, scores_stride);
}

static Row MakeRow(const AttentionArgs& args, int64_t query, int64_t head) {
  const int64_t kv_head = head / (args.num_heads / args.num_kv_heads);
  const int64_t num_keys = args.first_position + query + 1;
  const bool is_windowed = args.window > 0 && num_keys > args.window;
  return {args.q + query * args.q_stride + head * args.head_dim,
          args.out + query * args.out_stride + head * args.head_dim,
          args.stats == nullptr ? nullptr : args.stats + 2 * (query * args.num_heads + head),
          args.received == nullptr ? nullptr : args.received + kv_head * args.received_stride,
          args.k_offset + kv_head * args.k_head_stride,
          args.v_offset + kv_head * args.v_head_stride,
          is_windowed ? num_keys - args.window : 0,
          num_keys};
}

template <typename Kv>
static void Attend(const AttentionArgs& args) {
  const ptrdiff_t scores_stride = RoundUpToLanes(args.first_position + args.num_queries) + kLanes;
  const int64_t group = args.num_heads / args.num_kv_heads;
  Row rows[kScoreRows];
  int count = 0;
  if (args.num_queries * group < 3) {
    for (int64_t query = 0; query < args.num_queries; ++query) {
      for (int64_t head = 0; head < args.num_heads; ++head) {
        rows[count++] = MakeRow(args, query, head);
        if (count < kScoreRows) continue;
        AttendRows<Kv, false>(args, rows, count, scores_stride);
        count = 0;
      }
    }
    AttendRows<Kv, false>(args, rows, count, scores_stride);
    return;
  }
  for (int64_t kv_head = 0; kv_head < args.num_kv_heads; ++kv_head) {
    for (int64_t query = 0; query < args.num_queries; ++query) {
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        rows[count++] = MakeRow(args, query, head);
        if (count < kScoreRows) continue;
        AttendRows<Kv, true>(args, rows, count, scores_stride);
        count = 0;
      }
    }
    AttendRows<Kv, true>(args, rows, count, scores_stride);
    count = 0;
  }
}

static void Attention(const AttentionArgs& args) { Attend<PlainKv>(args); }
static void AttentionBf16(const AttentionArgs& args) { Attend<PairKv>(args); }

// Values of one token and head for the cache: groups of 32 numbers, the last one shorter; pair i of
// a group holds its numbers i and half + i.
static void PairHalves(const float* x, int64_t size, Bf16Pair* pairs) {
  for (int64_t d = 0; d < size; d += 2 * kLanes) {
    const int64_t left = size - d;
    const int64_t half = left < 2 * kLanes ? (left + 1) / 2 : kLanes;
    F32x16 second = Set(0.0F);
    if (left > half) second = LoadUpTo(x + d + half, left - half);
    StoreUpTo(Lanes(pairs) + d / 2, half, MakePairs(LoadUpTo(x + d, half), second));
  }
}

}  // namespace rollcall::ROLLCALL_ISA
