// Qwen 2, 2.5 (biases of q, k and v) and Qwen 3 (norms of q and k instead). Layers from
// max_window_layers on slide when use_sliding_window says so.
#include <algorithm>

#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr double kTheta = 10000.0;
constexpr int64_t kWindow = 4096;
constexpr int64_t kMaxWindowLayers = 28;

void ReadCommon(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kSilu, config);
  if (reader.BoolOr("use_sliding_window", false)) {
    config.sliding_window = ReadWindow(reader, kWindow);
  }
  const int64_t first = reader.IntOr("max_window_layers", 0, int64_t{1} << 30, kMaxWindowLayers);
  ReadLayerTypes(
      reader, [](int64_t layer, int64_t pattern) { return layer >= pattern; },
      config.sliding_window > 0 ? first : config.num_layers, config);
  if (config.sliding_layers.empty()) config.sliding_window = 0;
  config.rope = ReadRope(reader, "rope_theta", kTheta, {}, config.max_positions);
}

void WriteCommon(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["attention_dropout"] = 0.0;
  json["use_sliding_window"] = config.sliding_window > 0;
  json["sliding_window"] = WindowToJson(config);
  const auto first = std::ranges::find(config.sliding_layers, 1);
  json["max_window_layers"] =
      config.sliding_layers.empty() ? config.num_layers : first - config.sliding_layers.begin();
  json["layer_types"] = LayerTypesToJson(config);
  WriteRope(config.rope, "rope_theta", json);
}

void SetQwen2(ModelConfig& config) { config.has_qkv_bias = true; }

void SetQwen3(ModelConfig& config) { config.qk_norm = QkNorm::kHead; }

void ReadQwen3(JsonReader& reader, ModelConfig& config) {
  ReadCommon(reader, config);
  ReadAttentionBias(reader, false, config);
}

void WriteQwen3(const ModelConfig& config, nlohmann::ordered_json& json) {
  WriteCommon(config, json);
  json["attention_bias"] = config.has_qkv_bias;
}

}  // namespace

const ModelFamily kQwen2Family = {.model_type = "qwen2",
                                  .language_model = "Qwen2ForCausalLM",
                                  .sequence_score = "Qwen2ForSequenceClassification",
                                  .token_score = "Qwen2ForTokenClassification",
                                  .keys = {},
                                  .defaults = {.kv_heads = 32},
                                  .slides = [](int64_t layer) { return layer > 0; },
                                  .set_traits = SetQwen2,
                                  .read = ReadCommon,
                                  .write = WriteCommon};

const ModelFamily kQwen3Family = {.model_type = "qwen3",
                                  .language_model = "Qwen3ForCausalLM",
                                  .sequence_score = "Qwen3ForSequenceClassification",
                                  .token_score = "Qwen3ForTokenClassification",
                                  .keys = {},
                                  .defaults = {.kv_heads = 32, .head_dim = 128},
                                  .slides = [](int64_t layer) { return layer > 0; },
                                  .set_traits = SetQwen3,
                                  .read = ReadQwen3,
                                  .write = WriteQwen3};

}  // namespace rollcall
