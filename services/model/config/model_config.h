// What a decoder is made of, as plain data: sizes, and the traits by which the architectures
// differ. One decoder runs them all. No torch, no JSON.
//
// config/families/ turns the config.json of each architecture into these fields and back;
// weights/disk_layout.h says where its tensors lie in a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/activation.h"
#include "services/model/config/precision.h"
#include "services/model/config/rope.h"

namespace rollcall {

// What sits on top of the last hidden state.
enum class Head {
  kLanguageModel,
  kValue,          // one number a token, a tensor of ours beside the decoder's
  kSequenceScore,  // transformers' ForSequenceClassification: read at the last token
  kTokenScore,     // transformers' ForTokenClassification: read at every token
};

enum class NormKind {
  kRms,    // x / rms(x) * w
  kLayer,  // (x - mean) / deviation * w + b
};

// Where a block's norms sit: x + f(norm(x)), x + norm(f(x)), x + norm(f(norm(x))).
enum class NormPlacement { kBefore, kAfter, kBoth };

// Norm of queries and keys before they turn.
enum class QkNorm {
  kNone,
  kHead,  // each head by itself, one weight per element of a head
  kWide,  // all heads together
};

enum class Positions {
  kRotary,
  kLearned,  // a table added to the embedding
};

struct ModelConfig {
  std::string architecture = "LlamaForCausalLM";  // class of transformers
  std::string model_type = "llama";
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;  // longest sequence, prompt and completion together
  double norm_eps = 1e-5;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  std::vector<int32_t> eos_token_ids;
  int32_t bos_token_id = -1;  // -1: none
  int32_t pad_token_id = -1;
  int64_t num_labels = 1;  // outputs of a score head

  NormKind norm_kind = NormKind::kRms;
  NormPlacement norm_placement = NormPlacement::kBefore;
  QkNorm qk_norm = QkNorm::kNone;
  Activation activation = Activation::kSilu;
  Positions positions = Positions::kRotary;
  bool has_score_bias = true;            // of a token score head
  bool is_norm_weight_from_one = false;  // the norm multiplies with 1 + w
  bool is_residual_parallel = false;     // x + attention(norm(x)) + mlp(norm(x))
  bool is_mlp_gated = true;              // down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool has_qkv_bias = false;
  bool has_o_bias = false;
  bool has_mlp_bias = false;
  bool is_embedding_scaled = false;  // by the root of hidden_size, rounded to float first
  bool is_scale_per_layer = false;   // layer i divides its attention scores by i + 1 as well
  bool has_sliding_rope = false;     // sliding layers turn by sliding_rope
  double attention_scalar = 0;       // scores are divided by its root; 0: head_dim
  double attention_softcap = 0;      // scores become cap * tanh(score / cap); 0: they do not
  double logit_softcap = 0;          // the same for the output
  int64_t sliding_window = 0;        // keys that a query of a sliding layer sees, its own included
  std::vector<uint8_t> sliding_layers;  // one entry a layer, 1: sliding; empty: none is
  RopeConfig sliding_rope;
  int64_t declared_positions = 0;  // what config.json says where fewer are taken; 0: the same
  Precision precision = Precision::kFloat32;  // of computing; the job's choice, not config.json's

  bool operator==(const ModelConfig&) const = default;
};

// What the attention of one layer does.
struct LayerAttention {
  int64_t window = 0;  // 0: all keys
  double scale = 1.0;
  bool is_sliding_rope = false;
};
LayerAttention AttentionOfLayer(const ModelConfig& config, int64_t layer);

// The length for which rotary scalings are computed.
int64_t DeclaredPositions(const ModelConfig& config);

// Architectures by their model_type, for messages and flags.
std::vector<std::string> KnownModelTypes();

// Makes it a language model of this type without a window: sizes, rotary embedding, tokens and
// labels stay, all other traits become the architecture's.
// kInvalidArgument lists the known types.
Status SetModelType(std::string_view model_type, ModelConfig* config);

// Whether key-value heads may be fewer than query heads.
bool HasKvHeads(const ModelConfig& config);

// Lets the layers slide that do so in this architecture. kInvalidArgument when it has no windows.
Status SetSlidingWindow(int64_t window, ModelConfig* config);

// The head that the config's class has, and the other way round: kInvalidArgument when
// transformers has no such class.
Head HeadOfArchitecture(const ModelConfig& config);
Status SetArchitectureHead(Head head, ModelConfig* config);

// kInvalidArgument names the file (`origin`), the key and what would be right: unknown
// architecture, features that are not built, sizes that do not fit together.
StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view origin);

// kInvalidArgument when a number is missing or out of range or the sizes do not fit together.
Status ValidateModelConfig(const ModelConfig& config);

// A config.json that transformers reads, with the dtype of the weights beside it (F32, BF16 or
// F16); and the generation_config.json.
std::string ModelConfigToJson(const ModelConfig& config, DType dtype = DType::kF32);
std::string GenerationConfigToJson(const ModelConfig& config);

// Of the language model; a tied output projection counts once.
int64_t NumParameters(const ModelConfig& config);

}  // namespace rollcall
