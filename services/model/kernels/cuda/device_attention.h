// Causal attention of packed queries over keys and values in a pool of blocks: decode steps, whole
// prompts and chunks of them in one call.
// Sources: Dao et al. 2022, arXiv 2205.14135 (tiles and a running softmax); Dao 2023,
// crfm.stanford.edu "Flash-Decoding" (splits of the keys); Kwon et al. 2023, arXiv 2309.06180
// (blocks).
//
// Law of one query of one head, the same in every kernel, so that a token's result has the same
// bits in a decode step, in a whole prompt and in any chunk of it:
//   * a score is a sum over d in order, fused; then scale, then the cap;
//   * keys come in tiles of kDeviceTileKeys, counted from the sequence's begin. The maximum and the
//     sum of a tile run over 32 lanes (key j is in lane j mod 32) and a fixed tree; values are
//     added in the order of keys;
//   * tiles of one split of kDeviceSplitKeys are folded in order into a running softmax that starts
//     anew with the split; splits are folded in order into the result.
//
// Letters: N queries of all sequences, S sequences, H query heads, K kv heads, D head dim. Query
// head h uses kv head h / (H / K).
#pragma once

#include <cstdint>

#include "services/model/kernels/cuda/device_args.h"

namespace rollcall {

constexpr int64_t kDeviceTileKeys = 64;
constexpr int64_t kDeviceSplitKeys = 512;

struct DeviceAttentionArgs {
  DeviceKvLayer kv;          // head_dim a multiple of 8, at most 256
  const float* q = nullptr;  // [N, H*D]
  int64_t num_heads = 1;     // H
  int64_t num_sequences = 0;
  // Query t of sequence s is row query_starts[s] + t and sees keys 0 .. num_keys[s] -
  // num_queries[s] + t, num_queries being the difference of two starts.
  const int32_t* query_starts = nullptr;  // [S+1]
  const int32_t* num_keys =
      nullptr;  // [S]; 0 where a sequence is only padding of the batch: zeros come out
  const int32_t* block_tables = nullptr;  // [S, table_stride]
  int64_t table_stride = 0;
  // Bounds of all sequences that the host knows; larger ones cost idle blocks, nothing else.
  int64_t max_queries = 1;
  int64_t max_keys = 0;
  float scale = 1;
  float softcap = 0;     // 0: none
  int64_t window = 0;    // keys that a query sees, its own included; 0: all
  float* out = nullptr;  // [N, H*D]
  // DeviceAttentionWorkspace floats.
  float* workspace = nullptr;
  int64_t num_rows = 0;  // N
};

// Floats that a call needs.
inline int64_t DeviceAttentionWorkspace(int64_t num_rows, int64_t num_heads, int64_t head_dim,
                                        int64_t max_keys) {
  const int64_t splits = (max_keys + kDeviceSplitKeys - 1) / kDeviceSplitKeys;
  return num_rows * num_heads * splits * (head_dim + 2);
}

}  // namespace rollcall
