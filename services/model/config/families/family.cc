#include "services/model/config/families/family.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace rollcall {
namespace {

constexpr std::array<const ModelFamily*, 10> kFamilies = {
    &kLlamaFamily,  &kMistralFamily, &kQwen2Family, &kQwen3Family, &kGemma2Family,
    &kGemma3Family, &kPhi3Family,    &kOlmo2Family, &kGpt2Family,  &kGptNeoxFamily};

// The first name of each activation is the one that is written.
constexpr std::pair<const char*, Activation> kActivations[] = {
    {"silu", Activation::kSilu},         {"swish", Activation::kSilu},
    {"gelu", Activation::kGelu},         {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh}, {"relu", Activation::kRelu}};

}  // namespace

std::span<const ModelFamily* const> ModelFamilies() { return kFamilies; }

const ModelFamily* FindFamily(std::string_view model_type) {
  for (const ModelFamily* family : kFamilies) {
    if (model_type == family->model_type) return family;
  }
  return nullptr;
}

void ReadActivation(JsonReader& reader, const char* key, Activation fallback, ModelConfig& config) {
  const std::string name = reader.TextOr(key, std::string(ActivationName(fallback)));
  std::string known;
  for (const auto& [known_name, activation] : kActivations) {
    if (name == known_name) {
      config.activation = activation;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  reader.Fail(std::string("'") + key + "' is " + JsonReader::Dump(name) + "; known: " + known);
}

std::string_view ActivationName(Activation activation) {
  for (const auto& [name, value] : kActivations) {
    if (value == activation) return name;
  }
  return "";
}

int64_t ReadWindow(JsonReader& reader, int64_t fallback) {
  if (reader.IsNull("sliding_window")) return 0;
  return reader.IntOr("sliding_window", 1, kMaxWindow, fallback);
}

void ReadWindowOfAllLayers(JsonReader& reader, int64_t fallback, ModelConfig& config) {
  config.sliding_window = ReadWindow(reader, fallback);
  config.sliding_layers.assign(
      config.sliding_window > 0 ? static_cast<size_t>(config.num_layers) : 0, 1);
}

void ReadLayerTypes(JsonReader& reader, bool (*is_sliding)(int64_t layer, int64_t pattern),
                    int64_t pattern, ModelConfig& config) {
  const JsonReader::Json* list = reader.Find("layer_types");
  if (list != nullptr &&
      (!list->is_array() || list->size() != static_cast<size_t>(config.num_layers))) {
    reader.Fail("'layer_types' is " + JsonReader::Dump(*list) +
                "; expected one entry for each of " + std::to_string(config.num_layers) +
                " layers");
    return;
  }
  config.sliding_layers.clear();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    bool slides = false;
    if (list == nullptr) {
      slides = is_sliding(layer, pattern);
    } else {
      const JsonReader::Json& type = (*list)[static_cast<size_t>(layer)];
      slides = type == "sliding_attention";
      if (!slides && type != "full_attention") {
        reader.Fail("'layer_types' holds " + JsonReader::Dump(type) +
                    "; known: full_attention, sliding_attention");
        return;
      }
    }
    config.sliding_layers.push_back(slides ? 1 : 0);
  }
  if (std::ranges::count(config.sliding_layers, 1) == 0) {
    config.sliding_layers.clear();
  } else if (config.sliding_window == 0) {
    reader.Fail("'layer_types' asks for sliding_attention, but there is no 'sliding_window'");
  }
}

nlohmann::ordered_json LayerTypesToJson(const ModelConfig& config) {
  auto list = nlohmann::ordered_json::array();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    list.push_back(AttentionOfLayer(config, layer).window > 0 ? "sliding_attention"
                                                              : "full_attention");
  }
  return list;
}

nlohmann::ordered_json WindowToJson(const ModelConfig& config) {
  return config.sliding_window > 0 ? nlohmann::ordered_json(config.sliding_window)
                                   : nlohmann::ordered_json();
}

void ReadAttentionBias(JsonReader& reader, bool fallback, ModelConfig& config) {
  config.has_qkv_bias = reader.BoolOr("attention_bias", fallback);
  config.has_o_bias = config.has_qkv_bias;
}

}  // namespace rollcall
