// Causal attention of some queries of one sequence over its keys.
//
// Fixed order, whatever the layout: a score is a sum over d in order; maximum and sum over keys run
// in sixteen lanes (key j, counted from the start of the sequence, belongs to lane j mod 16) and
// then in a fixed tree; the weighted sum of values takes the keys in order. So paging, chunking and
// packing give the same bits. Keys before a window have weight zero and change nothing, so it does
// not matter how many of them a tile reads.
//
// A score s becomes s * scale, or cap * tanh(s * scale / cap), before the softmax.
//
// Keys and values may be bfloat16 pairs: the rest of the law stays, so the result is that of
// float32 with rounded keys and values, bit for bit.
//
// Letters: Q queries, T keys, H query heads, K kv heads, D head dim. Query head h uses kv head
// h / (H / K).
#pragma once

#include <cstdint>

namespace rollcall {

// Queries of one tile of the gradient.
constexpr int64_t kAttentionGradRows = 32;

// As bfloat16, a pointer to floats points to pairs, D is NumBf16Pairs(D) in the layouts below, and
// strides and offsets count pairs. A key's pairs are neighbours along d; those of a value are made
// by pair_halves.
//
// Keys and values lie in blocks of block_size tokens; the last block may be partly filled. Padding
// of a block is read but never used.
struct AttentionArgs {
  const float* q = nullptr;  // head h of query t at q + t * q_stride + h * D
  int64_t q_stride = 0;
  int64_t num_queries = 0;
  int64_t first_position = 0;  // of the first query; query t sees keys 0 .. first_position + t
  int64_t num_heads = 1;
  int64_t num_kv_heads = 1;
  int64_t head_dim = 0;
  int64_t block_size = 0;
  // Kv head c of block b at k_blocks[b] + k_offset + c * k_head_stride, transposed:
  // [D][block_size].
  const float* const* k_blocks = nullptr;
  int64_t k_offset = 0;
  int64_t k_head_stride = 0;
  // Kv head c of token j of block b at v_blocks[b] + v_offset + c * v_head_stride + j * v_stride.
  const float* const* v_blocks = nullptr;
  int64_t v_offset = 0;
  int64_t v_head_stride = 0;
  int64_t v_stride = 0;
  float scale = 1;
  float softcap = 0;     // 0: none
  int64_t window = 0;    // keys that a query sees, its own included; 0: all before it
  float* out = nullptr;  // as q
  int64_t out_stride = 0;
  // Null, or [Q, H, 2] for the gradient: maximum of the scaled scores and inverse of the sum of
  // exponentials.
  float* stats = nullptr;
  // Null, or the attention that each key receives is added to it, in the order of queries and then
  // heads: key j of kv head c at received + c * received_stride + j.
  float* received = nullptr;
  int64_t received_stride = 0;
  float* scratch = nullptr;  // AttentionScratch floats
};
int64_t AttentionScratch(int64_t num_keys);

// Gradient of one kv head and its G query heads, for a whole sequence that was packed token by
// token (first_position 0).
struct AttentionGradArgs {
  const float* q = nullptr;  // head g of token t at q + t * q_stride + g * D
  const float* out = nullptr;
  const float* dout = nullptr;
  float* dq = nullptr;
  int64_t q_stride = 0;  // of q, out, dout and dq
  const float* k = nullptr;
  const float* v = nullptr;
  float* dk = nullptr;           // added to
  float* dv = nullptr;           // added to
  int64_t kv_stride = 0;         // of k, v, dk and dv
  const float* stats = nullptr;  // pair of head g of token t at stats + t * stats_stride + 2 * g
  int64_t stats_stride = 0;
  int64_t num_tokens = 0;  // T
  int64_t group = 1;       // G
  int64_t head_dim = 0;
  float scale = 1;
  float softcap = 0;
  int64_t window = 0;
  float* scratch = nullptr;  // AttentionGradScratch floats
};
int64_t AttentionGradScratch(int64_t num_tokens, int64_t head_dim);

}  // namespace rollcall
