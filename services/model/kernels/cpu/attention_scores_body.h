// Scores of attention, and who its rows are, for one instruction set. Blocks lie anywhere, so the
// machine does not foresee which one is next: what is read soon is asked for ahead.
#pragma once

#include "services/model/kernels/attention.h"
#include "services/model/kernels/cpu/bfloat16_body.h"
#include "services/model/kernels/cpu/lanes_body.h"

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
  float* received;     // or null
  ptrdiff_t k_offset;  // of the row's kv head in a block
  ptrdiff_t v_offset;
  int64_t first_key;  // of its window
  int64_t num_keys;   // counted from the start of the sequence
};

// Below, R rows are computed at once and S neighbours of them share a kv head; S divides R.

// Numbers of a key or value that one lane holds.
struct PlainKv {
  static constexpr int kPerLane = 1;
  ROLLCALL_INLINE F32x16 Number(F32x16 lanes, int) { return lanes; }
};
struct PairKv {
  static constexpr int kPerLane = 2;
  ROLLCALL_INLINE F32x16 Number(F32x16 lanes, int n) {
    return n == 0 ? FirstOfPairs(lanes) : SecondOfPairs(lanes);
  }
};

struct Chunk {
  const float* keys;   // of kv head 0: rows of sixteen keys, block_size apart, one for each lane
  float* scores;       // of the first row; the next row is scores_stride further
  int64_t count;       // keys to read and write, 1..16
  const float* ahead;  // as keys, of the chunk that is read kScoreChunks later
};

// Adds kNumbers products of each key's lane d.
template <typename Kv, int kNumbers, int R, int S, int C, bool kPartial>
ROLLCALL_INLINE void ScoreStep(const Row* rows, const Chunk* chunks, int64_t d,
                               ptrdiff_t key_stride, F32x16 (&acc)[R][C]) {
  const auto load = [&](int r, int c) __attribute__((always_inline)) {
    const float* p = chunks[c].keys + rows[r].k_offset + d * key_stride;
    return kPartial ? LoadFirst(p, chunks[c].count) : Load(p);
  };
  F32x16 keys[C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (r % S == 0) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        keys[c] = load(r, c);
        __builtin_prefetch(chunks[c].ahead + rows[r].k_offset + d * key_stride, 0, 2);
      }
    }
#pragma GCC unroll 2
    for (int n = 0; n < kNumbers; ++n) {
      const F32x16 q = Set(rows[r].q[d * Kv::kPerLane + n]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] = Fma(q, Kv::Number(keys[c], n), acc[r][c]);
    }
  }
}

template <typename Kv, int R, int S, int C, bool kPartial>
ROLLCALL_INLINE void ScoreTile(const Row* rows, const Chunk* chunks, int64_t head_dim,
                               ptrdiff_t key_stride, ptrdiff_t scores_stride) {
  F32x16 acc[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = Set(0.0F);
  }
  int64_t d = 0;
  for (; (d + 1) * Kv::kPerLane <= head_dim; ++d) {
    ScoreStep<Kv, Kv::kPerLane, R, S, C, kPartial>(rows, chunks, d, key_stride, acc);
  }
  if (d * Kv::kPerLane < head_dim) {
    ScoreStep<Kv, 1, R, S, C, kPartial>(rows, chunks, d, key_stride, acc);
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
template <typename Kv, int R, int S, bool kPartial>
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
      const int64_t later = first + offset + kScoreChunks * kLanes;
      const float* const keys = block + offset;
      chunks[filled++] = {.keys = keys,
                          .scores = scores + first + offset,
                          .count = room < kLanes ? room : kLanes,
                          .ahead = later < num_keys ? args.k_blocks[later / args.block_size] +
                                                          later % args.block_size
                                                    : keys};
      if (filled < kScoreChunks) continue;
      ScoreTile<Kv, R, S, kScoreChunks, kPartial>(rows, chunks, args.head_dim, args.block_size,
                                                  scores_stride);
      filled = 0;
    }
  }
  for (int c = 0; c < filled; ++c) {
    ScoreTile<Kv, R, S, 1, kPartial>(rows, chunks + c, args.head_dim, args.block_size,
                                     scores_stride);
  }
}

}  // namespace rollcall::ROLLCALL_ISA
