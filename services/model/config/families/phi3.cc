// Phi-3 and 3.5: Llama with fused projections on disk, a window over all layers, heads that may
// turn in part, and longrope.
#include "services/model/config/families/family.h"
#include "services/model/config/rope_json.h"

namespace rollcall {
namespace {

constexpr double kTheta = 10000.0;
constexpr int64_t kOriginalPositions = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 24;

void SetNothing(ModelConfig& /*config*/) {}

void ReadPhi3(JsonReader& reader, ModelConfig& config) {
  ReadActivation(reader, "hidden_act", Activation::kSilu, config);
  ReadWindowOfAllLayers(reader, 0, config);
  config.rope = ReadRope(reader, "rope_theta", kTheta, {.key = "partial_rotary_factor"},
                         config.max_positions);
  if (config.rope.type == RopeType::kDefault) return;
  if (config.rope.type != RopeType::kLongRope) {
    reader.Fail("the rotary embedding is '" + std::string(RopeTypeName(config.rope.type)) +
                "'; a Phi-3 knows default and longrope");
    return;
  }
  config.rope.original_max_positions =
      reader.IntOr("original_max_position_embeddings", 2, kMaxPositions, kOriginalPositions);
}

void WritePhi3(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["hidden_act"] = ActivationName(config.activation);
  json["sliding_window"] = WindowToJson(config);
  json["attention_dropout"] = 0.0;
  json["embd_pdrop"] = 0.0;
  json["resid_pdrop"] = 0.0;
  json["original_max_position_embeddings"] = config.rope.type == RopeType::kLongRope
                                                 ? config.rope.original_max_positions
                                                 : config.max_positions;
  json["partial_rotary_factor"] = config.rope.partial_factor;
  WriteRope(config.rope, "rope_theta", json);
}

}  // namespace

const ModelFamily kPhi3Family = {.model_type = "phi3",
                                 .language_model = "Phi3ForCausalLM",
                                 .sequence_score = "Phi3ForSequenceClassification",
                                 .token_score = "Phi3ForTokenClassification",
                                 .keys = {},
                                 .defaults = {.norm_eps = 1e-5},
                                 .slides = [](int64_t) { return true; },
                                 .set_traits = SetNothing,
                                 .read = ReadPhi3,
                                 .write = WritePhi3};

}  // namespace rollcall
