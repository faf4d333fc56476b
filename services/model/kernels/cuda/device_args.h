// Arguments of the kernels that have no counterpart of the same form on the CPU.
// Letters: N rows, E width, V vocabulary, K kv heads, D head dim.
#pragma once

#include <cstdint>

#include "services/model/kernels/cuda/device_dtype.h"

namespace rollcall {

// y = a + b.
struct DeviceAddArgs {
  const float* a = nullptr;
  const float* b = nullptr;
  int64_t size = 0;
  float* y = nullptr;  // may be a or b
};

// Rows of the table times a scale.
struct DeviceEmbedArgs {
  const void* table = nullptr;  // [V, E]
  DeviceDType table_dtype = DeviceDType::kF32;
  const int32_t* ids = nullptr;  // [N], in [0, V)
  int64_t num_rows = 0;
  int64_t width = 0;
  float scale = 1;
  float* y = nullptr;  // [N, E]
};

// y[n] = x[rows[n]].
struct DeviceGatherArgs {
  const float* x = nullptr;       // rows of E
  const int32_t* rows = nullptr;  // [N]
  int64_t num_rows = 0;
  int64_t width = 0;
  float* y = nullptr;  // [N, E]
};

// Float32 to bfloat16, to nearest, ties to even; not-a-number becomes 0x7FFF.
struct DeviceConvertArgs {
  const float* x = nullptr;
  int64_t size = 0;
  uint16_t* y = nullptr;
};

// y[n, o] = sum over k of x[n, k] * w[o, k], plus b[o], without tensor cores. Every y[n, o] is one
// accumulator that takes its products in the order of k, fused: with float32 weights the same bits
// as the CPU's linear.h. With bfloat16 weights x is rounded to bfloat16 first.
struct DeviceLinearArgs {
  const float* x = nullptr;  // [N, K]
  int64_t num_rows = 0;
  int64_t depth = 0;        // K
  int64_t num_outputs = 0;  // O
  const void* w = nullptr;  // [O, K]
  DeviceDType w_dtype = DeviceDType::kF32;
  const float* bias = nullptr;  // [O], or null
  float* y = nullptr;           // [N, O]; not x
};

// Of each row of logits the log-probability of one target, with the entropy; see log_softmax.h. The
// sums run over 256 threads and then in a fixed tree.
struct DeviceLogSoftmaxArgs {
  const float* logits = nullptr;  // [N, V]
  int64_t num_rows = 0;
  int64_t width = 0;
  const float* inverse_temperatures = nullptr;  // [N], or null: 1
  const int32_t* targets = nullptr;             // [N], in [0, V); null where only stats are wanted
  float* logprobs = nullptr;                    // [N], written where there are targets
  float* stats = nullptr;                       // null, or [N, 3] as LogSoftmaxStats
};

// One layer's part of a pool of KV blocks. A block is contiguous over all layers, as on the CPU, so
// that the scheduler, copies and swaps are the same; inside, keys and values both lie [K][block
// size][D], because a thread loads sixteen bytes of one key.
//   element (head, token, d) of block b: b * block_stride + offset + (head * block_size + token) *
//   D + d
struct DeviceKvLayer {
  void* pool = nullptr;
  DeviceDType dtype = DeviceDType::kF32;
  int64_t block_stride = 0;  // elements of a whole block
  int64_t k_offset = 0;      // elements from a block's begin to this layer's keys
  int64_t v_offset = 0;
  int64_t block_size = 16;
  int64_t num_kv_heads = 1;
  int64_t head_dim = 0;  // a multiple of 8
};

// Writes new keys and values into their slots, rounded to the pool's type.
struct DeviceKvAppendArgs {
  DeviceKvLayer kv;
  const float* k = nullptr;        // [N, K*D]
  const float* v = nullptr;        // [N, K*D]
  const int32_t* slots = nullptr;  // [N], block * block_size + token; below 0: the row is left out
  int64_t num_rows = 0;
};

// Copies whole blocks, all layers; no block is read and written in one call.
struct DeviceCopyBlocksArgs {
  void* pool = nullptr;
  int64_t block_bytes = 0;         // a multiple of 16
  const int32_t* pairs = nullptr;  // [num_pairs, 2]: from, to
  int64_t num_pairs = 0;
};

}  // namespace rollcall
