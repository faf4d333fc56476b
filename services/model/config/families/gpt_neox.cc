// GPT-NeoX and Pythia: LayerNorm, attention and feed-forward side by side on the same residual,
// heads that turn in part.
#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr double kTheta = 10000.0;
constexpr double kShare = 0.25;

void SetGptNeox(ModelConfig& config) {
  config.norm_kind = NormKind::kLayer;
  config.is_residual_parallel = true;
  config.activation = Activation::kGelu;
  config.is_mlp_gated = false;
  config.has_qkv_bias = true;
  config.has_o_bias = true;
  config.has_mlp_bias = true;
}

void ReadGptNeox(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kGelu, config);
  ReadAttentionBias(reader, true, config);
  config.is_residual_parallel = reader.BoolOr("use_parallel_residual", true);
  config.rope = ReadRope(reader, "rotary_emb_base", kTheta,
                         {.key = "rotary_pct", .fallback = kShare}, config.max_positions);
}

void WriteGptNeox(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["attention_bias"] = config.has_qkv_bias;
  json["use_parallel_residual"] = config.is_residual_parallel;
  json["attention_dropout"] = 0.0;
  json["hidden_dropout"] = 0.0;
  json["classifier_dropout"] = 0.0;
  WriteRope(config.rope, "rotary_emb_base", json);
  json["rotary_pct"] = config.rope.partial_factor;
  json["rope_parameters"]["partial_rotary_factor"] = config.rope.partial_factor;
}

}  // namespace

const ModelFamily kGptNeoxFamily = {
    .model_type = "gpt_neox",
    .language_model = "GPTNeoXForCausalLM",
    .sequence_score = "GPTNeoXForSequenceClassification",
    .token_score = "GPTNeoXForTokenClassification",
    .keys = {.kv_heads = nullptr, .head_dim = nullptr, .norm_eps = "layer_norm_eps"},
    .defaults = {.norm_eps = 1e-5},
    .slides = nullptr,
    .set_traits = SetGptNeox,
    .read = ReadGptNeox,
    .write = WriteGptNeox};

}  // namespace rollcall
