// Llama 2 and 3, and Mistral, which is Llama with a window over all layers.
#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr double kTheta = 10000.0;
constexpr int64_t kMistralWindow = 4096;

void ReadLlama(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kSilu, config);
  ReadAttentionBias(reader, false, config);
  config.has_mlp_bias = reader.BoolOr("mlp_bias", false);
  reader.MustBeOff("sliding_window", "a window in a Llama");
  config.rope = ReadRope(reader, "rope_theta", kTheta, {}, config.max_positions);
}

void WriteLlama(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["attention_bias"] = config.has_qkv_bias;
  json["mlp_bias"] = config.has_mlp_bias;
  json["attention_dropout"] = 0.0;
  WriteRope(config.rope, "rope_theta", json);
}

void ReadMistral(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kSilu, config);
  ReadWindowOfAllLayers(reader, kMistralWindow, config);
  config.rope = ReadRope(reader, "rope_theta", kTheta, {}, config.max_positions);
}

void WriteMistral(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["sliding_window"] = WindowToJson(config);
  json["attention_dropout"] = 0.0;
  WriteRope(config.rope, "rope_theta", json);
}

void SetNothing(ModelConfig& /*config*/) {}

}  // namespace

const ModelFamily kLlamaFamily = {.model_type = "llama",
                                  .language_model = "LlamaForCausalLM",
                                  .sequence_score = "LlamaForSequenceClassification",
                                  .token_score = "LlamaForTokenClassification",
                                  .keys = {},
                                  .defaults = {},
                                  .slides = nullptr,
                                  .set_traits = SetNothing,
                                  .read = ReadLlama,
                                  .write = WriteLlama};

const ModelFamily kMistralFamily = {.model_type = "mistral",
                                    .language_model = "MistralForCausalLM",
                                    .sequence_score = "MistralForSequenceClassification",
                                    .token_score = "MistralForTokenClassification",
                                    .keys = {},
                                    .defaults = {.kv_heads = 8},
                                    .slides = [](int64_t) { return true; },
                                    .set_traits = SetNothing,
                                    .read = ReadMistral,
                                    .write = WriteMistral};

}  // namespace rollcall
