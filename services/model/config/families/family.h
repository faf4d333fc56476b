// One architecture's view of config.json: a row of the table and two functions. What all of them
// have in common is read and written by model_config.cc.
#pragma once

#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "services/model/config/json_reader.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// Names of the sizes. Null: the architecture has no such key.
struct SizeKeys {
  const char* hidden = "hidden_size";
  const char* intermediate = "intermediate_size";
  const char* layers = "num_hidden_layers";
  const char* heads = "num_attention_heads";
  const char* kv_heads = "num_key_value_heads";
  const char* head_dim = "head_dim";
  const char* max_positions = "max_position_embeddings";
  const char* norm_eps = "rms_norm_eps";
};

// What transformers takes for keys that are not there. 0: derived from the other sizes.
struct SizeDefaults {
  int64_t intermediate_per_hidden = 0;  // 0: the size must be given
  int64_t kv_heads = 0;                 // 0: as many as query heads
  int64_t head_dim = 0;                 // 0: hidden / heads
  double norm_eps = 1e-6;
  bool is_tied = false;
};

struct ModelFamily {
  const char* model_type = nullptr;
  // Classes of transformers; null where there is none.
  const char* language_model = nullptr;
  const char* sequence_score = nullptr;
  const char* token_score = nullptr;
  SizeKeys keys;
  SizeDefaults defaults;
  // Layers that a fresh model with a window lets slide; null: none ever does.
  bool (*slides)(int64_t layer) = nullptr;
  // Sets what every model of the family has.
  void (*set_traits)(ModelConfig& config) = nullptr;
  // Reads what is particular; sizes, norm_eps and traits are set already.
  void (*read)(JsonReader& reader, ModelConfig& config) = nullptr;
  void (*write)(const ModelConfig& config, nlohmann::ordered_json& json) = nullptr;
};

std::span<const ModelFamily* const> ModelFamilies();

// Null when there is none.
const ModelFamily* FindFamily(std::string_view model_type);

extern const ModelFamily kLlamaFamily;
extern const ModelFamily kMistralFamily;
extern const ModelFamily kQwen2Family;
extern const ModelFamily kQwen3Family;
extern const ModelFamily kGemma2Family;
extern const ModelFamily kGemma3Family;
extern const ModelFamily kPhi3Family;
extern const ModelFamily kOlmo2Family;
extern const ModelFamily kGpt2Family;
extern const ModelFamily kGptNeoxFamily;

// Shared by several families.

// The activation under `key`; unknown ones are refused with the list of known ones.
void ReadActivation(JsonReader& reader, const char* key, Activation fallback, ModelConfig& config);
std::string_view ActivationName(Activation activation);

// 'sliding_window'; 0 when it is null.
int64_t ReadWindow(JsonReader& reader, int64_t fallback);
// All layers slide, or none (no window).
void ReadWindowOfAllLayers(JsonReader& reader, int64_t fallback, ModelConfig& config);
// 'layer_types', or `is_sliding(layer)` where it is missing. The window is read already.
void ReadLayerTypes(JsonReader& reader, bool (*is_sliding)(int64_t layer, int64_t pattern),
                    int64_t pattern, ModelConfig& config);
nlohmann::ordered_json LayerTypesToJson(const ModelConfig& config);
// null where no layer slides
nlohmann::ordered_json WindowToJson(const ModelConfig& config);

// 'attention_bias' of q, k, v and o alike.
void ReadAttentionBias(JsonReader& reader, bool fallback, ModelConfig& config);

constexpr int64_t kMaxWindow = int64_t{1} << 30;

}  // namespace rollcall
