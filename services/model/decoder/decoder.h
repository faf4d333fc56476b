// The one forward path: sampling, scoring and learning all run DecoderHidden. What differs between
// them is only where attention finds its keys and values.
//
// On CPU every output row is computed in one fixed order that does not depend on the other rows of
// the batch (batch-invariant), so a log-probability is the same number, bit for bit, whether it
// was computed in a decode step, in a prefill of any chunking, or in a training batch.
//
// A model computes in the precision of its config: see docs/kernels.md for the law of each. The
// heads of values and scores are always float32.
//
// Letters: N tokens in this call (all sequences one after the other), V vocabulary, E hidden,
// H query heads, K kv heads, D head dim.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "services/base/status/status.h"
#include "services/model/decoder/heavy_hitters.h"
#include "services/model/law/row_laws.h"
#include "services/model/layers/compute.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {

// Where attention finds keys and values. One object serves one call of DecoderHidden.
class AttentionContext {
 public:
  virtual ~AttentionContext() = default;
  // float32 [N, H*D] from q [N, H*D], k and v [N, K*D]; norms and rotary are already applied to q
  // and k. Scale, cap and window of the layer are the context's business.
  virtual at::Tensor Attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v) = 0;
};

// Whole sequences packed one after the other; differentiable. starts has one more entry than there
// are sequences: sequence s is tokens starts[s] .. starts[s+1]-1.
std::unique_ptr<AttentionContext> MakePackedAttention(const ModelConfig& config,
                                                      std::vector<int32_t> starts);

// A pool of fixed-size KV blocks: block b, layer l is
//   data + ((b * num_layers + l) * 2 + (0 for K, 1 for V)) * K * block_size * D floats,
// block-major: one block is contiguous over all layers, so that copying or moving a block is one
// memcpy. In bfloat16 a float holds a pair, and D is that of pairs (see kernels/attention.h).
// Inside, values are laid out [K][block_size][D] and keys transposed, [K][D][block_size], so that
// one vector holds a dimension of sixteen keys. A block_size that is a multiple of 16 is the fast
// one; any size gives the same bits.
struct KvPool {
  float* data = nullptr;
  int64_t num_blocks = 0;
  int64_t block_size = 16;
};

// One sequence's part of a call: `num_new` tokens at positions num_cached .. num_cached+num_new-1.
struct PagedSequence {
  std::span<const int32_t> block_table;  // covers num_cached + num_new tokens
  int32_t num_cached = 0;
  int32_t num_new = 0;
  // Not null: the sequence forgets. Its tokens are in slots (HeavyHitters::NumSlots) of the blocks;
  // once it is compact it brings one token at a time, while its prompt is computed any number.
  HeavyHitters* heavy_hitters = nullptr;
};

// Moves what the prompt's heavy hitters keep to the first slots of its blocks, in place, when the
// whole prompt is computed.
void CompactHeavyHitters(const ModelConfig& config, const KvPool& pool,
                         std::span<const int32_t> block_table, HeavyHitters* heavy_hitters);

// Reads and writes the pool; no gradients. The spans and the team must outlive the call.
std::unique_ptr<AttentionContext> MakePagedAttention(const ModelConfig& config, KvPool pool,
                                                     std::vector<PagedSequence> sequences,
                                                     const Compute& compute = {});

// Weights in the layout that the kernels like, made once per policy version for inference, in the
// precision of the model; or quantized, for sampling only: then log-probabilities are not the
// learner's.
// Training passes null and the kernels pack as they go; the results are the same bits
// unless quantized.
struct PackedWeights;
StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(
    const ModelWeights& weights, Quantization quantization = Quantization::kNone);

// Final hidden states after the last norm, float32 [N, E].
//   token_ids, positions  N entries each; ids in [0, V), positions in [0, max_positions)
// Differentiable with respect to the weights when they require grad and grad mode is on. The
// number of threads changes no bit.
StatusOr<at::Tensor> DecoderHidden(const ModelWeights& weights, const PackedWeights* packed,
                                   std::span<const int32_t> token_ids,
                                   std::span<const int32_t> positions, AttentionContext& attention,
                                   const Compute& compute = {});

// The same where ids and positions, int32 [N], lie beside the weights, on the CPU or on a device.
// Nothing is checked and nothing of the host is read, so that the call may be captured in a graph.
StatusOr<at::Tensor> DecoderHidden(const ModelWeights& weights, const PackedWeights* packed,
                                   const at::Tensor& token_ids_N, const at::Tensor& positions_N,
                                   AttentionContext& attention, const Compute& compute);

// float32 [N, V] logits of the given hidden rows, capped where the model caps them. Differentiable.
StatusOr<at::Tensor> Logits(const ModelWeights& weights, const PackedWeights* packed,
                            const at::Tensor& hidden_NE, const Compute& compute = {});

struct TokenLogprobs {
  at::Tensor logprobs_N;  // float32 log softmax(logits / temperature)[target]
  at::Tensor entropy_N;   // float32 entropy of softmax(logits / temperature); differentiable too
};

// Log-probabilities of targets_N (int32 span) under the hidden rows, chunked over N so that at most
// 16 MiB of logits live at once; recomputed in backward. temperature > 0. `laws` has one entry per
// row, with the target in its kept set and ids of the vocabulary; null: nothing is edited,
// everything is kept.
StatusOr<TokenLogprobs> ComputeTokenLogprobs(const ModelWeights& weights,
                                             const PackedWeights* packed,
                                             const at::Tensor& hidden_NE,
                                             std::span<const int32_t> targets_N, double temperature,
                                             std::shared_ptr<const RowLaws> laws = nullptr);

// The same log-softmax in the same order over one row of logits, for the sampler: writes
// log softmax(logits / temperature) into out_V. Bit-equal to ComputeTokenLogprobs.
void LogSoftmaxRow(std::span<const float> logits_V, double temperature, std::span<float> out_V);

// float32 [N] values of the hidden rows (value head). Differentiable.
StatusOr<at::Tensor> Values(const ModelWeights& weights, const at::Tensor& hidden_NE);

// float32 [N, L] scores of the hidden rows, L labels (score heads). Differentiable. A sequence
// score is that of the row of the sequence's last token that is not padding.
StatusOr<at::Tensor> Scores(const ModelWeights& weights, const at::Tensor& hidden_NE);

}  // namespace rollcall
