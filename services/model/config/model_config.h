// Hyperparameters of a decoder, as Hugging Face's config.json spells them. Plain data, no torch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct ModelConfig {
  std::string architecture = "LlamaForCausalLM";
  std::string model_type = "llama";
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;  // longest sequence, prompt and completion together
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  std::vector<int32_t> eos_token_ids;
  int32_t bos_token_id = -1;  // -1: none
  int32_t pad_token_id = -1;
};

// kInvalidArgument names the file (`origin`), the key and what would be right: unknown
// architecture, features that are not built (rope scaling, biases, other activations), sizes that
// do not fit together.
StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view origin);

// kInvalidArgument when a number is missing or out of range or the sizes do not fit together.
Status ValidateModelConfig(const ModelConfig& config);

// A config.json that transformers reads, and the generation_config.json beside it.
std::string ModelConfigToJson(const ModelConfig& config);
std::string GenerationConfigToJson(const ModelConfig& config);

// Of the language model; a tied output projection counts once.
int64_t NumParameters(const ModelConfig& config);

}  // namespace rollcall
