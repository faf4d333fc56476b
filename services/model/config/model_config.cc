#include "services/model/config/model_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/model/config/families/family.h"
#include "services/model/config/json_reader.h"
#include "services/model/weights/architecture.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

// Bounds that no real decoder reaches; they keep every product of sizes inside int64.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
constexpr int64_t kMaxLabels = 65536;
constexpr int64_t kDefaultLabels = 2;  // of transformers

struct FamilyHead {
  const ModelFamily* family = nullptr;
  Head head = Head::kLanguageModel;
};

FamilyHead FindClass(std::string_view name) {
  for (const ModelFamily* family : ModelFamilies()) {
    for (const auto& [class_name, head] : {std::pair(family->language_model, Head::kLanguageModel),
                                           std::pair(family->sequence_score, Head::kSequenceScore),
                                           std::pair(family->token_score, Head::kTokenScore)}) {
      if (class_name != nullptr && name == class_name) return {family, head};
    }
  }
  return {};
}

std::string KnownClasses() {
  std::string known;
  for (const ModelFamily* family : ModelFamilies()) {
    known += (known.empty() ? "" : ", ") + std::string(family->language_model);
  }
  return known;
}

int32_t ReadTokenId(JsonReader& reader, const char* key, const ModelConfig& config) {
  return static_cast<int32_t>(reader.IntOr(key, -1, config.vocab_size - 1, -1));
}

void ReadEosTokens(JsonReader& reader, ModelConfig& config) {
  const Json* eos = reader.Find("eos_token_id");
  if (eos == nullptr) return;
  if (!eos->is_array()) {
    config.eos_token_ids = {ReadTokenId(reader, "eos_token_id", config)};
    return;
  }
  for (const Json& id : *eos) {
    if (!id.is_number_integer() || id < 0 || id >= config.vocab_size) {
      reader.Fail("'eos_token_id' holds " + JsonReader::Dump(id) + "; expected token ids below " +
                  std::to_string(config.vocab_size));
      return;
    }
    config.eos_token_ids.push_back(id.get<int32_t>());
  }
}

// Null with the reader's status set when the class is unknown.
const ModelFamily* ReadArchitecture(JsonReader& reader, ModelConfig& config) {
  const Json* list = reader.Find("architectures");
  if (list == nullptr || !list->is_array() || list->size() != 1 || !list->front().is_string()) {
    reader.Fail("'architectures' is " + (list == nullptr ? "missing" : JsonReader::Dump(*list)) +
                "; expected one name, like [\"LlamaForCausalLM\"]");
    return nullptr;
  }
  const auto name = list->front().get<std::string>();
  const ModelFamily* family = FindClass(name).family;
  if (family == nullptr) {
    reader.Fail("architecture " + JsonReader::Dump(list->front()) + " is not supported; known: " +
                KnownClasses() + " and their sequence and token classification");
    return nullptr;
  }
  config.architecture = name;
  config.model_type = family->model_type;
  reader.MustBe("model_type", family->model_type);
  return family;
}

void ReadSizes(JsonReader& reader, const ModelFamily& family, ModelConfig& config) {
  const SizeKeys& keys = family.keys;
  const SizeDefaults& defaults = family.defaults;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxPositions);
  config.hidden_size = reader.Int(keys.hidden, 1, kMaxWidth);
  config.intermediate_size =
      defaults.intermediate_per_hidden == 0
          ? reader.Int(keys.intermediate, 1, kMaxWidth)
          : reader.IntOr(keys.intermediate, 1, kMaxWidth,
                         defaults.intermediate_per_hidden * config.hidden_size);
  config.num_layers = reader.Int(keys.layers, 1, kMaxLayers);
  config.num_heads = reader.Int(keys.heads, 1, kMaxHeads);
  config.num_kv_heads = config.num_heads;
  if (keys.kv_heads != nullptr) {
    const bool is_default = defaults.kv_heads != 0 && !reader.IsNull(keys.kv_heads);
    config.num_kv_heads = reader.IntOr(keys.kv_heads, 1, kMaxHeads,
                                       is_default ? defaults.kv_heads : config.num_heads);
  }
  config.head_dim = 0;
  if (keys.head_dim != nullptr && reader.Find(keys.head_dim) != nullptr) {
    config.head_dim = reader.Int(keys.head_dim, 1, 4096);
  } else if (defaults.head_dim != 0) {
    config.head_dim = defaults.head_dim;
  } else if (reader.ok()) {
    if (config.hidden_size % config.num_heads != 0) {
      reader.Fail(std::string("'") + keys.hidden + "' " + std::to_string(config.hidden_size) +
                  " is not a multiple of '" + keys.heads + "' " + std::to_string(config.num_heads) +
                  (keys.head_dim == nullptr ? "" : "; make it one or give 'head_dim'"));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  config.max_positions = reader.Int(keys.max_positions, 1, kMaxPositions);
  config.norm_eps = reader.DoubleOr(keys.norm_eps, defaults.norm_eps);
  config.tie_word_embeddings = reader.BoolOr("tie_word_embeddings", defaults.is_tied);
}

// Labels of a head that scores: id2label as transformers writes it, or num_labels.
void ReadLabels(JsonReader& reader, ModelConfig& config) {
  config.num_labels = reader.IntOr("num_labels", 1, kMaxLabels, kDefaultLabels);
  const Json* labels = reader.Find("id2label");
  if (labels == nullptr) return;
  if (!labels->is_object() || labels->empty() || labels->size() > kMaxLabels) {
    reader.Fail("'id2label' is " + JsonReader::Dump(*labels) + "; expected an object of 1 to " +
                std::to_string(kMaxLabels) + " labels");
    return;
  }
  config.num_labels = static_cast<int64_t>(labels->size());
}

void RefuseOtherKinds(JsonReader& reader) {
  reader.MustBeOff("quantization_config", "a quantized model");
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    reader.MustBeOff(key, "a mixture of experts");
  }
  reader.MustBeOff("is_encoder_decoder", "an encoder");
}

std::string ClassOfHead(const ModelFamily& family, Head head) {
  const char* name = family.language_model;
  if (head == Head::kSequenceScore) name = family.sequence_score;
  if (head == Head::kTokenScore) name = family.token_score;
  return name == nullptr ? "" : name;
}

Status UnknownModelType(std::string_view model_type) {
  std::string known;
  for (const std::string& type : KnownModelTypes()) known += (known.empty() ? "" : ", ") + type;
  return InvalidArgument("model type '" + std::string(model_type) +
                         "' is not known; known: " + known);
}

// The sizes that the architecture has no key for.
Status CheckDerivedSizes(const ModelConfig& config, const ModelFamily& family) {
  if (family.keys.kv_heads == nullptr && config.num_kv_heads != config.num_heads) {
    return InvalidArgument("a '" + config.model_type + "' model has as many key-value heads (" +
                           std::to_string(config.num_kv_heads) + ") as query heads (" +
                           std::to_string(config.num_heads) + ")");
  }
  if (family.keys.head_dim == nullptr && config.num_heads * config.head_dim != config.hidden_size) {
    return InvalidArgument("the heads of a '" + config.model_type + "' model share '" +
                           family.keys.hidden + "' " + std::to_string(config.hidden_size) +
                           "; there are " + std::to_string(config.num_heads) + " of " +
                           std::to_string(config.head_dim));
  }
  return OkStatus();
}

Status CheckSizes(const ModelConfig& config) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_layers},
      {"num_attention_heads", config.num_heads},
      {"num_key_value_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"max_position_embeddings", config.max_positions},
      {"num_labels", config.num_labels}};
  for (const auto& [name, size] : sizes) {
    if (size < 1) {
      return InvalidArgument(std::string("'") + name + "' is " + std::to_string(size) +
                             "; expected at least 1");
    }
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return InvalidArgument("'num_attention_heads' " + std::to_string(config.num_heads) +
                           " is not a multiple of 'num_key_value_heads' " +
                           std::to_string(config.num_kv_heads));
  }
  if (!config.sliding_layers.empty() &&
      (static_cast<int64_t>(config.sliding_layers.size()) != config.num_layers ||
       config.sliding_window < 1)) {
    return InvalidArgument("'sliding_window' is " + std::to_string(config.sliding_window) +
                           " and the model names " + std::to_string(config.sliding_layers.size()) +
                           " of " + std::to_string(config.num_layers) + " layers");
  }
  return OkStatus();
}

void WriteSizes(const ModelConfig& config, const SizeKeys& keys, nlohmann::ordered_json& json) {
  json["vocab_size"] = config.vocab_size;
  json[keys.hidden] = config.hidden_size;
  json[keys.intermediate] = config.intermediate_size;
  json[keys.layers] = config.num_layers;
  json[keys.heads] = config.num_heads;
  if (keys.kv_heads != nullptr) json[keys.kv_heads] = config.num_kv_heads;
  if (keys.head_dim != nullptr) json[keys.head_dim] = config.head_dim;
  json[keys.max_positions] = DeclaredPositions(config);
  json[keys.norm_eps] = config.norm_eps;
}

void WriteLabels(const ModelConfig& config, Head head, nlohmann::ordered_json& json) {
  nlohmann::ordered_json names = nlohmann::ordered_json::object();
  nlohmann::ordered_json ids = nlohmann::ordered_json::object();
  for (int64_t label = 0; label < config.num_labels; ++label) {
    names[std::to_string(label)] = "LABEL_" + std::to_string(label);
    ids["LABEL_" + std::to_string(label)] = label;
  }
  json["id2label"] = names;
  json["label2id"] = ids;
  if (head == Head::kTokenScore) json["token_classification_bias"] = config.has_score_bias;
}

void WriteTokens(const ModelConfig& config, nlohmann::ordered_json& json) {
  const auto token = [](int32_t id) {
    return id < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(id);
  };
  json["bos_token_id"] = token(config.bos_token_id);
  if (config.eos_token_ids.size() == 1) {
    json["eos_token_id"] = config.eos_token_ids.front();
  } else if (config.eos_token_ids.empty()) {
    json["eos_token_id"] = nullptr;
  } else {
    json["eos_token_id"] = config.eos_token_ids;
  }
  json["pad_token_id"] = token(config.pad_token_id);
}

}  // namespace

LayerAttention AttentionOfLayer(const ModelConfig& config, int64_t layer) {
  LayerAttention attention;
  const bool slides =
      !config.sliding_layers.empty() && config.sliding_layers[static_cast<size_t>(layer)] != 0;
  if (slides) attention.window = config.sliding_window;
  attention.is_sliding_rope = slides && config.has_sliding_rope;
  const double scalar =
      config.attention_scalar > 0 ? config.attention_scalar : static_cast<double>(config.head_dim);
  attention.scale = 1.0 / std::sqrt(scalar);
  if (config.is_scale_per_layer) attention.scale /= static_cast<double>(layer + 1);
  return attention;
}

int64_t DeclaredPositions(const ModelConfig& config) {
  return config.declared_positions > 0 ? config.declared_positions : config.max_positions;
}

std::vector<std::string> KnownModelTypes() {
  std::vector<std::string> types;
  for (const ModelFamily* family : ModelFamilies()) types.emplace_back(family->model_type);
  return types;
}

Status SetModelType(std::string_view model_type, ModelConfig* config) {
  const ModelFamily* family = FindFamily(model_type);
  if (family == nullptr) return UnknownModelType(model_type);
  // Traits of another architecture must not stay behind.
  *config = {.architecture = family->language_model,
             .model_type = family->model_type,
             .vocab_size = config->vocab_size,
             .hidden_size = config->hidden_size,
             .intermediate_size = config->intermediate_size,
             .num_layers = config->num_layers,
             .num_heads = config->num_heads,
             .num_kv_heads = config->num_kv_heads,
             .head_dim = config->head_dim,
             .max_positions = config->max_positions,
             .norm_eps = config->norm_eps,
             .rope = std::move(config->rope),
             .tie_word_embeddings = config->tie_word_embeddings,
             .eos_token_ids = std::move(config->eos_token_ids),
             .bos_token_id = config->bos_token_id,
             .pad_token_id = config->pad_token_id,
             .num_labels = config->num_labels,
             .has_score_bias = config->has_score_bias};
  family->set_traits(*config);
  return OkStatus();
}

bool HasKvHeads(const ModelConfig& config) {
  const ModelFamily* family = FindFamily(config.model_type);
  return family != nullptr && family->keys.kv_heads != nullptr;
}

Status SetSlidingWindow(int64_t window, ModelConfig* config) {
  const ModelFamily* family = FindFamily(config->model_type);
  if (family == nullptr || family->slides == nullptr) {
    return InvalidArgument("a '" + config->model_type + "' model has no sliding window");
  }
  config->sliding_window = window;
  config->sliding_layers.clear();
  for (int64_t layer = 0; layer < config->num_layers; ++layer) {
    config->sliding_layers.push_back(family->slides(layer) ? 1 : 0);
  }
  if (std::ranges::count(config->sliding_layers, 1) == 0) {
    return InvalidArgument("none of " + std::to_string(config->num_layers) + " layers of a '" +
                           config->model_type + "' model slides; give it more layers");
  }
  return OkStatus();
}

Head HeadOfArchitecture(const ModelConfig& config) { return FindClass(config.architecture).head; }

Status SetArchitectureHead(Head head, ModelConfig* config) {
  const ModelFamily* family = FindFamily(config->model_type);
  if (family == nullptr) return UnknownModelType(config->model_type);
  const std::string name = ClassOfHead(*family, head);
  if (name.empty()) {
    return InvalidArgument("transformers has no token classification of a '" + config->model_type +
                           "' model; score sequences instead");
  }
  config->architecture = name;
  return OkStatus();
}

Status ValidateModelConfig(const ModelConfig& config) {
  const ModelFamily* family = FindFamily(config.model_type);
  if (family == nullptr) return UnknownModelType(config.model_type);
  ROLLCALL_RETURN_IF_ERROR(CheckSizes(config));
  ROLLCALL_RETURN_IF_ERROR(CheckDerivedSizes(config, *family));
  if (!(config.norm_eps > 0) || !std::isfinite(config.norm_eps)) {
    return InvalidArgument(std::string("'") + family->keys.norm_eps + "' is " +
                           std::to_string(config.norm_eps) + "; expected a number above 0");
  }
  if (config.positions != Positions::kRotary) return OkStatus();
  ROLLCALL_RETURN_IF_ERROR(ValidateRope(config.rope, config.head_dim));
  if (config.has_sliding_rope) return ValidateRope(config.sliding_rope, config.head_dim);
  return OkStatus();
}

StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view origin) {
  return GuardExceptions(origin, [&]() -> StatusOr<ModelConfig> {
    const Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return InvalidArgument(std::string(origin) + ": not a JSON object");
    }
    Status status;
    JsonReader reader(json, origin, &status);
    ModelConfig config;
    const ModelFamily* family = ReadArchitecture(reader, config);
    ROLLCALL_RETURN_IF_ERROR(status);
    RefuseOtherKinds(reader);
    ReadSizes(reader, *family, config);
    ROLLCALL_RETURN_IF_ERROR(status);
    family->set_traits(config);
    family->read(reader, config);
    if (HeadOfArchitecture(config) != Head::kLanguageModel) ReadLabels(reader, config);
    config.has_score_bias = reader.BoolOr("token_classification_bias", true);
    ROLLCALL_RETURN_IF_ERROR(status);
    ReadEosTokens(reader, config);
    config.bos_token_id = ReadTokenId(reader, "bos_token_id", config);
    config.pad_token_id = ReadTokenId(reader, "pad_token_id", config);
    ROLLCALL_RETURN_IF_ERROR(status);
    // Where the long factors would begin, every key that is cached would turn by another angle.
    if (config.rope.type == RopeType::kLongRope &&
        config.rope.original_max_positions < config.max_positions) {
      config.declared_positions = config.max_positions;
      config.max_positions = config.rope.original_max_positions;
    }
    ROLLCALL_RETURN_IF_ERROR(Annotate(ValidateModelConfig(config), origin));
    return config;
  });
}

std::string ModelConfigToJson(const ModelConfig& config, DType dtype) {
  const ModelFamily* family = FindFamily(config.model_type);
  ROLLCALL_CHECK(family != nullptr);
  nlohmann::ordered_json json;
  json["architectures"] = {config.architecture};
  json["model_type"] = config.model_type;
  WriteSizes(config, family->keys, json);
  family->write(config, json);
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  const Head head = HeadOfArchitecture(config);
  if (head != Head::kLanguageModel) WriteLabels(config, head, json);
  WriteTokens(config, json);
  const char* dtype_name = dtype == DType::kBF16  ? "bfloat16"
                           : dtype == DType::kF16 ? "float16"
                                                  : "float32";
  json["torch_dtype"] = dtype_name;
  json["dtype"] = dtype_name;
  json["use_cache"] = true;
  return json.dump(2) + "\n";
}

std::string GenerationConfigToJson(const ModelConfig& config) {
  nlohmann::ordered_json json;
  if (config.bos_token_id >= 0) json["bos_token_id"] = config.bos_token_id;
  if (!config.eos_token_ids.empty()) json["eos_token_id"] = config.eos_token_ids;
  if (config.pad_token_id >= 0) json["pad_token_id"] = config.pad_token_id;
  json["do_sample"] = true;
  return json.dump(2) + "\n";
}

int64_t NumParameters(const ModelConfig& config) {
  int64_t total = 0;
  for (const ParameterSpec& parameter : ListParameters(config, Head::kLanguageModel)) {
    int64_t count = 1;
    for (int64_t size : parameter.shape) count *= size;
    total += count;
  }
  return total;
}

}  // namespace rollcall
