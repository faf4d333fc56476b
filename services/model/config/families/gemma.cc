// Gemma 2 and the text model of Gemma 3: norms before and after each block whose weights count from
// one, scaled embeddings, sliding layers among full ones. Gemma 2 caps its scores and logits;
// Gemma 3 norms q and k instead and turns its sliding layers by a rotary base of their own.
#include <cmath>

#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr int64_t kWindow = 4096;
constexpr double kScalar = 256.0;
constexpr double kTheta = 10000.0;
constexpr double kGlobalTheta = 1e6;
constexpr int64_t kGemma2Pattern = 2;
constexpr int64_t kGemma3Pattern = 6;

void SetCommon(ModelConfig& config) {
  config.norm_placement = NormPlacement::kBoth;
  config.is_norm_weight_from_one = true;
  config.activation = Activation::kGeluTanh;
  config.is_embedding_scaled = true;
}

void SetGemma3(ModelConfig& config) {
  SetCommon(config);
  config.qk_norm = QkNorm::kHead;
  config.has_sliding_rope = true;
}

// Every pattern-th layer sees everything.
bool IsSliding(int64_t layer, int64_t pattern) { return (layer + 1) % pattern != 0; }

double ReadCap(JsonReader& reader, const char* key, double fallback) {
  return reader.IsNull(key) ? 0 : reader.DoubleOr(key, fallback);
}

void ReadCommon(JsonReader& reader, int64_t pattern, ModelConfig& config) {
  ReadActivation(reader, "hidden_activation", Activation::kGeluTanh, config);
  ReadAttentionBias(reader, false, config);
  reader.MustBeOff("use_bidirectional_attention", "attention in both directions");
  config.attention_scalar = reader.DoubleOr("query_pre_attn_scalar", kScalar);
  config.sliding_window = ReadWindow(reader, kWindow);
  ReadLayerTypes(reader, IsSliding, pattern, config);
  if (config.sliding_layers.empty()) config.sliding_window = 0;
}

nlohmann::ordered_json CapToJson(double cap) {
  return cap > 0 ? nlohmann::ordered_json(cap) : nlohmann::ordered_json();
}

void WriteCommon(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_activation"] = ActivationName(config.activation);
  json["hidden_act"] = ActivationName(config.activation);
  json["attention_bias"] = config.has_qkv_bias;
  json["attention_dropout"] = 0.0;
  const double scalar =
      config.attention_scalar > 0 ? config.attention_scalar : static_cast<double>(config.head_dim);
  // transformers takes an integer only.
  if (scalar == std::floor(scalar) && scalar < 1e15) {
    json["query_pre_attn_scalar"] = static_cast<int64_t>(scalar);
  } else {
    json["query_pre_attn_scalar"] = scalar;
  }
  // transformers wants one even where no layer slides.
  json["sliding_window"] = config.sliding_window > 0 ? config.sliding_window : kWindow;
  json["layer_types"] = LayerTypesToJson(config);
  json["final_logit_softcapping"] = CapToJson(config.logit_softcap);
  json["attn_logit_softcapping"] = CapToJson(config.attention_softcap);
}

void ReadGemma2(JsonReader& reader, ModelConfig& config) {
  ReadCommon(reader, kGemma2Pattern, config);
  config.logit_softcap = ReadCap(reader, "final_logit_softcapping", 30.0);
  config.attention_softcap = ReadCap(reader, "attn_logit_softcapping", 50.0);
  config.rope = ReadRope(reader, "rope_theta", kTheta, {}, config.max_positions);
}

void WriteGemma2(const ModelConfig& config, nlohmann::ordered_json& json) {
  WriteCommon(config, json);
  WriteRope(config.rope, "rope_theta", json);
}

// The parameters of one kind of layer inside rope_parameters.
void ReadLayerRope(JsonReader& reader, const char* key, int64_t max_positions, RopeConfig& rope) {
  const JsonReader::Json* object = reader.Find(key);
  if (object == nullptr) return;
  if (!object->is_object()) {
    reader.Fail(std::string("'") + key + "' is " + JsonReader::Dump(*object) +
                "; expected an object");
    return;
  }
  JsonReader inner = reader.Inside(*object, key);
  inner.MustBe("truncate", true);  // transformers does not look for it here
  ReadRopeObject(inner, {}, max_positions, rope);
}

void ReadGemma3(JsonReader& reader, ModelConfig& config) {
  ReadCommon(reader, reader.IntOr("sliding_window_pattern", 1, 4096, kGemma3Pattern), config);
  // transformers computes Gemma 3 without it, whatever the file says.
  reader.MustBeOff("attn_logit_softcapping", "a cap on the scores of a Gemma 3");
  config.logit_softcap = ReadCap(reader, "final_logit_softcapping", 0);
  config.rope.theta = reader.DoubleOr("rope_theta", kGlobalTheta);
  config.sliding_rope.theta = reader.DoubleOr("rope_local_base_freq", kTheta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const JsonReader::Json* object = reader.Find(key);
    if (object == nullptr) continue;
    if (!object->is_object()) {
      reader.Fail(std::string("'") + key + "' is " + JsonReader::Dump(*object) +
                  "; expected an object");
      return;
    }
    JsonReader inner = reader.Inside(*object, key);
    if (std::string_view(key) == "rope_parameters") {
      ReadLayerRope(inner, "full_attention", config.max_positions, config.rope);
      ReadLayerRope(inner, "sliding_attention", config.max_positions, config.sliding_rope);
    } else if (!object->empty()) {
      ReadRopeObject(inner, {}, config.max_positions, config.rope);
    }
  }
}

void WriteGemma3(const ModelConfig& config, nlohmann::ordered_json& json) {
  WriteCommon(config, json);
  json["rope_theta"] = config.rope.theta;
  json["rope_local_base_freq"] = config.sliding_rope.theta;
  json["rope_scaling"] =
      config.rope.type == RopeType::kDefault ? nlohmann::ordered_json() : RopeToJson(config.rope);
  json["rope_parameters"] = {{"full_attention", RopeToJson(config.rope)},
                             {"sliding_attention", RopeToJson(config.sliding_rope)}};
}

}  // namespace

const ModelFamily kGemma2Family = {
    .model_type = "gemma2",
    .language_model = "Gemma2ForCausalLM",
    .sequence_score = "Gemma2ForSequenceClassification",
    .token_score = "Gemma2ForTokenClassification",
    .keys = {},
    .defaults = {.kv_heads = 4, .head_dim = 256, .is_tied = true},
    .slides = [](int64_t layer) { return IsSliding(layer, kGemma2Pattern); },
    .set_traits = SetCommon,
    .read = ReadGemma2,
    .write = WriteGemma2};

const ModelFamily kGemma3Family = {
    .model_type = "gemma3_text",
    .language_model = "Gemma3ForCausalLM",
    .sequence_score = "Gemma3TextForSequenceClassification",
    .token_score = nullptr,
    .keys = {},
    .defaults = {.kv_heads = 4, .head_dim = 256, .is_tied = true},
    .slides = [](int64_t layer) { return IsSliding(layer, kGemma3Pattern); },
    .set_traits = SetGemma3,
    .read = ReadGemma3,
    .write = WriteGemma3};

}  // namespace rollcall
