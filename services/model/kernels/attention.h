// Causal attention of some queries of one sequence over its keys, for one kv head and the group of
// query heads that share it.
//
// Fixed order, whatever the layout: a score is a sum over d in order; maximum and sum over keys run
// in sixteen lanes (key j, counted from the start of the sequence, belongs to lane j mod 16) and
// then in a fixed tree; the weighted sum of values takes the keys in order. So paging, chunking and
// packing give the same bits.
//
// Letters: Q queries, T keys, G query heads of the group, D head dim.
#pragma once

#include <cstdint>

namespace rollcall {

// Queries of one tile of the gradient.
constexpr int64_t kAttentionGradRows = 32;

// Keys and values lie in blocks of block_size tokens; the last block may be partly filled. Padding
// of a block is read but never used.
struct AttentionArgs {
  const float* q = nullptr;  // head g of query t at q + t * q_stride + g * D
  int64_t q_stride = 0;
  int64_t num_queries = 0;
  int64_t first_position = 0;  // of the first query; query t sees keys 0 .. first_position + t
  int64_t group = 1;           // G
  int64_t head_dim = 0;
  const float* const* k_blocks = nullptr;  // transposed: [D][block_size]
  const float* const* v_blocks = nullptr;  // token j of the block at v + j * v_stride
  int64_t block_size = 0;
  int64_t v_stride = 0;
  float scale = 1;
  float* out = nullptr;  // as q
  int64_t out_stride = 0;
  // Null, or [Q, stats_stride] pairs for the gradient: maximum of the scaled scores and inverse of
  // the sum of exponentials, head g of query t at stats + t * stats_stride + 2 * g.
  float* stats = nullptr;
  int64_t stats_stride = 0;
  float* scratch = nullptr;  // AttentionScratch floats
};
int64_t AttentionScratch(int64_t num_keys);

// Gradient for whole sequences that were packed token by token (first_position 0).
struct AttentionGradArgs {
  const float* q = nullptr;  // rows as above
  const float* out = nullptr;
  const float* dout = nullptr;
  float* dq = nullptr;
  int64_t q_stride = 0;  // of q, out, dout and dq
  const float* k = nullptr;
  const float* v = nullptr;
  float* dk = nullptr;    // added to
  float* dv = nullptr;    // added to
  int64_t kv_stride = 0;  // of k, v, dk and dv
  const float* stats = nullptr;
  int64_t stats_stride = 0;
  int64_t num_tokens = 0;  // T
  int64_t group = 1;
  int64_t head_dim = 0;
  float scale = 1;
  float* scratch = nullptr;  // AttentionGradScratch floats
};
int64_t AttentionGradScratch(int64_t num_tokens, int64_t head_dim);

}  // namespace rollcall
