// What a block of the attention kernels does with one tile of keys; the law is in
// device_attention.h. A block has one kv head and up to kMaxRows rows, a row being one query of one
// query head of that kv head, and shares the loads of keys and values among them.
//
// Shared memory, in this order: q [kMaxRows][D], weights [kMaxRows][kTile] (scores, then
// exponentials), max, sum, fade [kMaxRows] each, keys and values [kTile] lines each.
#pragma once

#include "services/model/kernels/cuda/device.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {

constexpr int kAttentionThreads = 128;
constexpr int kMaxRows = 16;
constexpr int kTile = static_cast<int>(kDeviceTileKeys);

// Elements from one key to the next in shared memory: sixteen bytes more than a key, so that the
// threads of a quarter warp, which read the same place of neighbouring keys, meet different banks.
template <typename T>
ROLLCALL_HOST_DEVICE int64_t LineSize(int64_t head_dim) {
  return head_dim + Vector<T>::kSize;
}

// Bytes of shared memory; a host function.
template <typename T>
int64_t AttentionSharedBytes(int64_t head_dim) {
  const int64_t floats = kMaxRows * (head_dim + kTile + 3);
  return floats * static_cast<int64_t>(sizeof(float)) +
         2 * kTile * LineSize<T>(head_dim) * static_cast<int64_t>(sizeof(T));
}

template <typename T>
struct AttentionShared {
  float* q;
  float* weights;
  float* max;  // of the running softmax
  float* sum;
  float* fade;  // what the tile's new maximum multiplies older sums with
  T* keys;
  T* values;

  ROLLCALL_DEVICE explicit AttentionShared(int head_dim) {
    q = reinterpret_cast<float*>(SharedMemory());
    weights = q + kMaxRows * head_dim;
    max = weights + kMaxRows * kTile;
    sum = max + kMaxRows;
    fade = sum + kMaxRows;
    keys = reinterpret_cast<T*>(fade + kMaxRows);
    values = keys + kTile * LineSize<T>(head_dim);
  }
};

// The rows of one block.
struct AttentionRows {
  int64_t sequence = 0;
  int64_t kv_head = 0;
  int64_t first_row = 0;  // of the sequence's rows of this kv head: query * group + head in group
  int num_rows = 0;
  int64_t group = 1;
  int64_t first_query = 0;     // the sequence's, in q
  int64_t first_position = 0;  // of the sequence's first query

  ROLLCALL_DEVICE int64_t Position(int row) const {
    return first_position + (first_row + row) / group;
  }
  // Where the row lies in q and out, in heads.
  ROLLCALL_DEVICE int64_t Head(int row, int64_t num_heads) const {
    const int64_t in_sequence = first_row + row;
    return (first_query + in_sequence / group) * num_heads + kv_head * group + in_sequence % group;
  }
  // Keys begin .. end-1 are seen by one of the rows.
  ROLLCALL_DEVICE int64_t Begin(int64_t window) const {
    const int64_t begin = window > 0 ? Position(0) + 1 - window : 0;
    return begin > 0 ? begin : 0;
  }
  ROLLCALL_DEVICE int64_t End() const { return Position(num_rows - 1) + 1; }
};

template <typename T>
ROLLCALL_DEVICE void LoadQueries(const DeviceAttentionArgs& args, const AttentionRows& rows,
                                 const AttentionShared<T>& shared) {
  const int head_dim = static_cast<int>(args.kv.head_dim);
  for (int i = ThreadIndex(); i < rows.num_rows * head_dim; i += kAttentionThreads) {
    const int64_t head = rows.Head(i / head_dim, args.num_heads);
    shared.q[i] = args.q[head * head_dim + i % head_dim];
  }
}

// Keys and values first .. first+kTile-1; zeros outside of begin .. end-1, where memory may hold
// anything.
template <typename T>
ROLLCALL_DEVICE void LoadTile(const DeviceAttentionArgs& args, const AttentionRows& rows,
                              int64_t first, int64_t begin, int64_t end,
                              const AttentionShared<T>& shared) {
  const DeviceKvLayer& kv = args.kv;
  const int head_dim = static_cast<int>(kv.head_dim);
  const int vectors = head_dim / Vector<T>::kSize;  // of a key
  const int64_t line = LineSize<T>(head_dim) / Vector<T>::kSize;
  const T* pool = static_cast<const T*>(kv.pool);
  const int32_t* table = args.block_tables + rows.sequence * args.table_stride;
  auto* keys = reinterpret_cast<Vector<T>*>(shared.keys);
  auto* values = reinterpret_cast<Vector<T>*>(shared.values);
  for (int i = ThreadIndex(); i < kTile * vectors; i += kAttentionThreads) {
    const int key = i / vectors;
    const int vector = i % vectors;
    const int64_t position = first + key;
    Vector<T> k{};
    Vector<T> v{};
    if (position >= begin && position < end) {
      const T* block = pool + table[position / kv.block_size] * kv.block_stride;
      const int64_t at = (rows.kv_head * kv.block_size + position % kv.block_size) * head_dim +
                         vector * Vector<T>::kSize;
      k = *reinterpret_cast<const Vector<T>*>(block + kv.k_offset + at);
      v = *reinterpret_cast<const Vector<T>*>(block + kv.v_offset + at);
    }
    keys[key * line + vector] = k;
    values[key * line + vector] = v;
  }
}

// Scaled and capped scores; -inf where the row does not see the key. A thread has one key and every
// second row.
template <typename T>
ROLLCALL_DEVICE void ScoreTile(const DeviceAttentionArgs& args, const AttentionRows& rows,
                               int64_t first, const AttentionShared<T>& shared) {
  constexpr int kRowStep = kAttentionThreads / kTile;
  constexpr int kRows = kMaxRows / kRowStep;
  const int head_dim = static_cast<int>(args.kv.head_dim);
  const int key = ThreadIndex() % kTile;
  const int first_row = ThreadIndex() / kTile;
  const T* line = shared.keys + key * LineSize<T>(head_dim);
  float acc[kRows] = {};
  for (int d = 0; d < head_dim; d += Vector<T>::kSize) {
    const Vector<T> k = *reinterpret_cast<const Vector<T>*>(line + d);
    ROLLCALL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = first_row + r * kRowStep;
      if (row >= rows.num_rows) continue;
      const float* q = shared.q + row * head_dim + d;
      ROLLCALL_UNROLL
      for (int i = 0; i < Vector<T>::kSize; ++i) acc[r] = Fma(q[i], ToFloat(k.at[i]), acc[r]);
    }
  }
  ROLLCALL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int row = first_row + r * kRowStep;
    if (row >= rows.num_rows) continue;
    const int64_t behind = rows.Position(row) - (first + key);  // how far the key lies behind
    const bool seen = behind >= 0 && (args.window == 0 || behind < args.window);
    float score = acc[r] * args.scale;
    if (args.softcap > 0) score = args.softcap * tanhf(score / args.softcap);
    shared.weights[row * kTile + key] = seen ? score : -INFINITY;
  }
}

// Factor of a sum whose maximum was `old_max` and is `max` now; both may be -inf.
ROLLCALL_DEVICE float Fade(float old_max, float max) {
  return old_max == max ? 1.0F : expf(old_max - max);
}

// Turns scores into exponentials and brings maximum and sum up to date. A warp has one row.
template <typename T>
ROLLCALL_DEVICE void SoftmaxTile(const AttentionRows& rows, const AttentionShared<T>& shared) {
  constexpr int kPerLane = kTile / kWarp;
  const int lane = ThreadIndex() % kWarp;
  for (int row = ThreadIndex() / kWarp; row < rows.num_rows; row += kAttentionThreads / kWarp) {
    float* weights = shared.weights + row * kTile;
    float max = -INFINITY;
    ROLLCALL_UNROLL
    for (int i = 0; i < kPerLane; ++i) max = fmaxf(max, weights[lane + i * kWarp]);
    const float old_max = shared.max[row];
    max = fmaxf(old_max, WarpMax(max));
    float sum = 0;
    ROLLCALL_UNROLL
    for (int i = 0; i < kPerLane; ++i) {
      const float score = weights[lane + i * kWarp];
      // Where nothing was seen yet, max is -inf too.
      const float e = score == -INFINITY ? 0.0F : expf(score - max);
      weights[lane + i * kWarp] = e;
      sum += e;
    }
    sum = WarpSum(sum);
    WarpBarrier();  // every lane has read the old maximum
    if (lane == 0) {
      const float fade = Fade(old_max, max);
      shared.fade[row] = fade;
      shared.max[row] = max;
      shared.sum[row] = Fma(shared.sum[row], fade, sum);
    }
  }
}

// A thread has two neighbouring elements of the head, and of the rows every kGroups-th.
template <int kMaxDim>
struct ValueTile {
  static constexpr int kPairs = kMaxDim / 2;
  static constexpr int kGroups = kAttentionThreads / kPairs;
  static constexpr int kRows = kMaxRows / kGroups;
  float acc[kRows][2];

  ROLLCALL_DEVICE static int Pair() { return ThreadIndex() % kPairs; }
  ROLLCALL_DEVICE static int Row(int r) { return ThreadIndex() / kPairs + r * kGroups; }

  ROLLCALL_DEVICE void Clear() {
    ROLLCALL_UNROLL
    for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = 0.0F;
  }

  // acc = acc * fade + weights * values, keys in order.
  template <typename T>
  ROLLCALL_DEVICE void Add(const AttentionRows& rows, int head_dim,
                           const AttentionShared<T>& shared) {
    if (2 * Pair() >= head_dim) return;
    ROLLCALL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (Row(r) >= rows.num_rows) continue;
      acc[r][0] *= shared.fade[Row(r)];
      acc[r][1] *= shared.fade[Row(r)];
    }
    const int64_t line = LineSize<T>(head_dim);
    const T* values = shared.values + 2 * Pair();
    for (int key = 0; key < kTile; ++key) {
      const float v0 = ToFloat(values[key * line]);
      const float v1 = ToFloat(values[key * line + 1]);
      ROLLCALL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (Row(r) >= rows.num_rows) continue;
        const float weight = shared.weights[Row(r) * kTile + key];
        acc[r][0] = Fma(weight, v0, acc[r][0]);
        acc[r][1] = Fma(weight, v1, acc[r][1]);
      }
    }
  }
};

// One split of the keys, from a softmax that starts anew: maximum and sum end up in shared memory,
// the weighted values in `values`.
template <typename T, int kMaxDim>
ROLLCALL_DEVICE void AttendSplit(const DeviceAttentionArgs& args, const AttentionRows& rows,
                                 int64_t split, const AttentionShared<T>& shared,
                                 ValueTile<kMaxDim>* values) {
  values->Clear();
  if (ThreadIndex() < kMaxRows) {
    shared.max[ThreadIndex()] = -INFINITY;
    shared.sum[ThreadIndex()] = 0.0F;
  }
  const int64_t begin = rows.Begin(args.window);
  const int64_t end = rows.End();
  const int64_t split_begin = split * kDeviceSplitKeys;
  const int64_t split_end = split_begin + kDeviceSplitKeys;
  int64_t first = split_begin > begin ? split_begin : begin / kTile * kTile;
  for (; first < end && first < split_end; first += kTile) {
    Barrier();  // the last tile is used up, and the sums are set
    LoadTile(args, rows, first, begin, end, shared);
    Barrier();
    ScoreTile(args, rows, first, shared);
    Barrier();
    SoftmaxTile(rows, shared);
    Barrier();
    values->Add(rows, static_cast<int>(args.kv.head_dim), shared);
  }
  Barrier();
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
