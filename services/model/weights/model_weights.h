// The parameters of one decoder, as views into one flat float32 arena, so that a snapshot, an
// optimizer step or a gradient reduction is one operation on one tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"
#include "services/model/tensor.h"
#include "services/model/weights/architecture.h"

namespace rollcall {

// Letters in names: V vocabulary, E hidden, F intermediate, H query heads, K kv heads, D head dim,
// P positions, L labels. What the architecture does not have is undefined.
struct LayerWeights {
  at::Tensor input_norm_E;
  at::Tensor input_norm_bias_E;
  at::Tensor q_proj_OE;  // O = H*D
  at::Tensor k_proj_OE;  // O = K*D
  at::Tensor v_proj_OE;
  at::Tensor o_proj_EO;  // O = H*D
  at::Tensor q_bias_O;
  at::Tensor k_bias_O;
  at::Tensor v_bias_O;
  at::Tensor o_bias_E;
  at::Tensor q_norm;  // [D] or [H*D]
  at::Tensor k_norm;  // [D] or [K*D]
  at::Tensor attention_out_norm_E;
  at::Tensor mlp_norm_E;
  at::Tensor mlp_norm_bias_E;
  at::Tensor gate_proj_FE;
  at::Tensor up_proj_FE;
  at::Tensor down_proj_EF;
  at::Tensor gate_bias_F;
  at::Tensor up_bias_F;
  at::Tensor down_bias_E;
  at::Tensor mlp_out_norm_E;
};

class RotaryTable;
struct LoraAdapter;
struct LoraWeights;

// Move-only owner. Not thread-safe while being written; const use from many threads is safe.
struct ModelWeights {
  ModelConfig config;
  Head head = Head::kLanguageModel;
  at::Tensor arena;  // float32 [parameters in the order of layout]; padded to a multiple of 64
  at::Tensor embed_VE;
  at::Tensor position_embed_PE;
  std::vector<LayerWeights> layers;
  at::Tensor final_norm_E;
  at::Tensor final_norm_bias_E;
  at::Tensor lm_head_VE;     // the embedding itself when tied; kLanguageModel only
  at::Tensor value_head_1E;  // kValue only
  at::Tensor score_LE;       // kSequenceScore, kTokenScore
  at::Tensor score_bias_L;   // kTokenScore
  // Canonical names and places in the arena, in arena order. Tied lm_head is not listed.
  std::vector<TensorLayout> layout;
  at::Tensor grad_arena;  // kAccumulate only; see GradArena
  // Cosines and sines, grown as positions are used; null where positions are learned.
  std::shared_ptr<RotaryTable> rotary;
  // An adapter that is not merged; null: none. See adapter/lora_weights.h.
  std::shared_ptr<LoraWeights> lora;
  std::shared_ptr<RotaryTable> sliding_rotary;  // of sliding layers where they turn otherwise
};

// Zero weights with the right views. With `requires_grad` every view is a leaf whose .grad is a
// view of one flat gradient tensor of the same layout, returned by GradArena().
enum class Gradients { kNone, kAccumulate };
StatusOr<ModelWeights> AllocateWeights(const ModelConfig& config, Head head, Gradients gradients);
// The flat gradient of weights made with kAccumulate.
at::Tensor GradArena(const ModelWeights& weights);
// Sets it to zero in place: the views that backward adds to stay where they are.
void ZeroGradients(const ModelWeights& weights);

// Normal(0, 0.02) matrices, norms of one, biases of zero, residual outputs scaled by
// 1/sqrt(2*layers); a value or score head starts at zero. Depends on the seed alone.
Status InitializeWeights(uint64_t seed, ModelWeights* weights);

// The same decoder under another head of zeros.
StatusOr<ModelWeights> WithHead(const ModelWeights& from, Head head, Gradients gradients);
// A critic that starts as the policy with a zero value head.
StatusOr<ModelWeights> MakeCritic(const ModelWeights& policy, Gradients gradients);

// Directory with config.json and model.safetensors (or shards with an index). Errors name file and
// tensor: missing, wrong shape, unknown dtype, truncated. F32, BF16 and F16 on disk; F32 in memory.
// A value head that is missing is zero, or the score head of a reward model with one label.
StatusOr<ModelWeights> LoadWeights(const std::string& directory, Head head, Gradients gradients);
// Adds an adapter of this model to its parameters; see adapter/lora_adapter.h.
Status MergeAdapter(const LoraAdapter& adapter, ModelWeights* weights);
// Writes config.json, generation_config.json and model.safetensors atomically; transformers loads
// it. tokenizer files are the caller's business.
Status SaveWeights(const ModelWeights& weights, const std::string& directory);

// Copies the arena's bytes out of or into host memory of arena size (hash-checked elsewhere).
Status CopyArenaTo(const ModelWeights& weights, std::byte* out, uint64_t size_bytes);
Status CopyArenaFrom(const std::byte* in, uint64_t size_bytes, ModelWeights* weights);

}  // namespace rollcall
