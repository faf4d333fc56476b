// OLMo 2: norms after the blocks, and of q and k over all heads together.
#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr double kTheta = 10000.0;

void SetOlmo2(ModelConfig& config) {
  config.norm_placement = NormPlacement::kAfter;
  config.qk_norm = QkNorm::kWide;
}

void ReadOlmo2(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kSilu, config);
  ReadAttentionBias(reader, false, config);
  config.rope = ReadRope(reader, "rope_theta", kTheta, {}, config.max_positions);
}

void WriteOlmo2(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["attention_bias"] = config.has_qkv_bias;
  json["attention_dropout"] = 0.0;
  WriteRope(config.rope, "rope_theta", json);
}

}  // namespace

const ModelFamily kOlmo2Family = {.model_type = "olmo2",
                                  .language_model = "Olmo2ForCausalLM",
                                  .sequence_score = "Olmo2ForSequenceClassification",
                                  .token_score = nullptr,
                                  .keys = {},
                                  .defaults = {.norm_eps = 1e-5},
                                  .slides = nullptr,
                                  .set_traits = SetOlmo2,
                                  .read = ReadOlmo2,
                                  .write = WriteOlmo2};

}  // namespace rollcall
