// Attention of the shared decoder over KV blocks in a device's memory: see kernels/cuda/
// device_attention.h for the law and device_args.h for the layout inside a block.
#pragma once

#include <cstdint>
#include <memory>

#include "services/model/decoder/decoder.h"
#include "services/model/layers/device.h"
#include "services/model/tensor.h"

namespace rollcall {

// Blocks, float32 or bfloat16; a block is [num_layers, 2 (K, V), kv heads, block_size, head dim],
// contiguous. They begin stride(0) elements apart, a multiple of sixteen bytes.
struct DeviceKvPool {
  at::Tensor blocks;
  int64_t block_size = 16;
};

// Sequences of one call; all tensors int32 on the device. Where the memory of a captured graph is
// filled anew before each replay, `max_queries` and `max_keys` bound what will be in it.
struct DeviceSequences {
  at::Tensor slots_N;  // where each token's keys go: block * block_size + token; -1: nowhere
  at::Tensor query_starts_S1;  // [S+1] first token of each sequence
  at::Tensor num_keys_S;       // with the new tokens; 0: padding of the batch
  at::Tensor block_tables_ST;
  int64_t max_queries = 1;  // of one sequence
  int64_t max_keys = 1;
};

// One call of DecoderHidden; no gradients. `device` must outlive it. The head dimension is a
// multiple of 8 and at most 256: else Attend throws.
std::unique_ptr<AttentionContext> MakeDeviceAttention(const ModelConfig& config,
                                                      const Device& device, DeviceKvPool pool,
                                                      DeviceSequences sequences);

}  // namespace rollcall
