// GPT-2: a table of positions, LayerNorm, biases everywhere, a plain feed-forward block, and key
// names of its own.
#include "services/model/config/families/family.h"

namespace rollcall {
namespace {

void SetGpt2(ModelConfig& config) {
  config.norm_kind = NormKind::kLayer;
  config.positions = Positions::kLearned;
  config.activation = Activation::kGeluTanh;
  config.is_mlp_gated = false;
  config.has_qkv_bias = true;
  config.has_o_bias = true;
  config.has_mlp_bias = true;
}

void ReadGpt2(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "activation_function", Activation::kGeluTanh, config);
  reader.MustBeOff("add_cross_attention", "attention to an encoder");
  config.attention_scalar = reader.BoolOr("scale_attn_weights", true) ? 0 : 1;
  config.is_scale_per_layer = reader.BoolOr("scale_attn_by_inverse_layer_idx", false);
}

void WriteGpt2(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["activation_function"] =
      config.activation == Activation::kGeluTanh ? "gelu_new" : ActivationName(config.activation);
  json["scale_attn_weights"] = config.attention_scalar != 1;
  json["scale_attn_by_inverse_layer_idx"] = config.is_scale_per_layer;
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_first_dropout"}) {
    json[key] = 0.0;
  }
}

}  // namespace

const ModelFamily kGpt2Family = {
    .model_type = "gpt2",
    .language_model = "GPT2LMHeadModel",
    .sequence_score = "GPT2ForSequenceClassification",
    .token_score = "GPT2ForTokenClassification",
    .keys = {.hidden = "n_embd",
             .intermediate = "n_inner",
             .layers = "n_layer",
             .heads = "n_head",
             .kv_heads = nullptr,
             .head_dim = nullptr,
             .max_positions = "n_positions",
             .norm_eps = "layer_norm_epsilon"},
    .defaults = {.intermediate_per_hidden = 4, .norm_eps = 1e-5, .is_tied = true},
    .slides = nullptr,
    .set_traits = SetGpt2,
    .read = ReadGpt2,
    .write = WriteGpt2};

}  // namespace rollcall
