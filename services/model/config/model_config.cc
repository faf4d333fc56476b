#include "services/model/config/model_config.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/model/weights/architecture.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

// Bounds that no real decoder reaches; they keep every product of sizes inside int64.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 24;

// Reads keys of one JSON object; the first thing that is wrong is kept as the status.
class Reader {
 public:
  Reader(const Json& json, std::string_view origin) : json_(json), origin_(origin) {}

  int64_t Int(const char* key, int64_t low, int64_t high) {
    const Json* value = Find(key);
    if (value == nullptr) {
      Fail(std::string("'") + key + "' is missing; expected an integer");
      return low;
    }
    return CheckedInt(key, *value, low, high);
  }

  int64_t IntOr(const char* key, int64_t low, int64_t high, int64_t fallback) {
    const Json* value = Find(key);
    return value == nullptr ? fallback : CheckedInt(key, *value, low, high);
  }

  double DoubleOr(const char* key, double fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number() || !(value->get<double>() > 0)) {
      Fail(std::string("'") + key + "' is " + Dump(*value) + "; expected a number above 0");
      return fallback;
    }
    return value->get<double>();
  }

  bool BoolOr(const char* key, bool fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) {
      Fail(std::string("'") + key + "' is " + Dump(*value) + "; expected true or false");
      return fallback;
    }
    return value->get<bool>();
  }

  void MustBe(const char* key, const Json& wanted) {
    const Json* value = Find(key);
    if (value != nullptr && *value != wanted) {
      Fail(std::string("'") + key + "' is " + Dump(*value) + "; only " + wanted.dump() +
           " is supported");
    }
  }

  // The value, or null when the key is absent or JSON null.
  const Json* Find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  void Fail(const std::string& message) {
    if (status_.ok()) status_ = InvalidArgument(std::string(origin_) + ": " + message);
  }

  const Status& status() const { return status_; }

  static std::string Dump(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    return text;
  }

 private:
  int64_t CheckedInt(const char* key, const Json& value, int64_t low, int64_t high) {
    const bool fits =
        value.is_number_integer() &&
        !(value.is_number_unsigned() &&
          value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high) {
      Fail(std::string("'") + key + "' is " + Dump(value) + "; expected an integer from " +
           std::to_string(low) + " to " + std::to_string(high));
      return low;
    }
    return value.get<int64_t>();
  }

  const Json& json_;
  std::string_view origin_;
  Status status_;
};

// transformers 5 writes rope_parameters, older versions rope_theta and rope_scaling.
void ReadRope(Reader& reader, std::string_view origin, ModelConfig& config) {
  config.rope_theta = reader.DoubleOr("rope_theta", config.rope_theta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* rope = reader.Find(key);
    if (rope == nullptr) continue;
    if (!rope->is_object()) {
      reader.Fail(std::string("'") + key + "' is " + Reader::Dump(*rope) + "; expected an object");
      return;
    }
    Reader inner(*rope, origin);
    inner.MustBe("rope_type", "default");
    inner.MustBe("type", "default");
    inner.MustBe("partial_rotary_factor", 1.0);
    config.rope_theta = inner.DoubleOr("rope_theta", config.rope_theta);
    if (!inner.status().ok()) {
      reader.Fail(std::string("in '") + key +
                  "': " + Message(inner.status()).substr(origin.size() + 2));
    }
  }
}

int32_t ReadTokenId(Reader& reader, const char* key, const ModelConfig& config) {
  return static_cast<int32_t>(reader.IntOr(key, -1, config.vocab_size - 1, -1));
}

void ReadEosTokens(Reader& reader, ModelConfig& config) {
  const Json* eos = reader.Find("eos_token_id");
  if (eos == nullptr) return;
  if (!eos->is_array()) {
    config.eos_token_ids = {ReadTokenId(reader, "eos_token_id", config)};
    return;
  }
  for (const Json& id : *eos) {
    if (!id.is_number_integer() || id < 0 || id >= config.vocab_size) {
      reader.Fail("'eos_token_id' holds " + Reader::Dump(id) + "; expected token ids below " +
                  std::to_string(config.vocab_size));
      return;
    }
    config.eos_token_ids.push_back(id.get<int32_t>());
  }
}

void ReadArchitecture(Reader& reader, ModelConfig& config) {
  const Json* list = reader.Find("architectures");
  if (list == nullptr || !list->is_array() || list->size() != 1 || !list->front().is_string()) {
    reader.Fail("'architectures' is " + (list == nullptr ? "missing" : Reader::Dump(*list)) +
                "; expected [\"LlamaForCausalLM\"]");
    return;
  }
  config.architecture = list->front().get<std::string>();
  if (config.architecture != "LlamaForCausalLM") {
    reader.Fail("architecture '" + config.architecture +
                "' is not supported; known: LlamaForCausalLM");
  }
  reader.MustBe("model_type", "llama");
  config.model_type = "llama";
}

void ReadSizes(Reader& reader, ModelConfig& config) {
  config.vocab_size = reader.Int("vocab_size", 1, kMaxPositions);
  config.hidden_size = reader.Int("hidden_size", 1, kMaxWidth);
  config.intermediate_size = reader.Int("intermediate_size", 1, kMaxWidth);
  config.num_layers = reader.Int("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = reader.Int("num_attention_heads", 1, 4096);
  config.num_kv_heads = reader.IntOr("num_key_value_heads", 1, 4096, config.num_heads);
  const bool derived = reader.Find("head_dim") == nullptr;
  if (derived && reader.status().ok() && config.hidden_size % config.num_heads != 0) {
    reader.Fail("'hidden_size' " + std::to_string(config.hidden_size) +
                " is not a multiple of 'num_attention_heads' " + std::to_string(config.num_heads) +
                "; make it one or give 'head_dim'");
  }
  config.head_dim =
      derived ? config.hidden_size / config.num_heads : reader.Int("head_dim", 1, 4096);
  config.max_positions = reader.Int("max_position_embeddings", 1, kMaxPositions);
}

}  // namespace

Status ValidateModelConfig(const ModelConfig& config) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_layers},
      {"num_attention_heads", config.num_heads},
      {"num_key_value_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"max_position_embeddings", config.max_positions}};
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
  if (config.head_dim % 2 != 0) {
    return InvalidArgument("the head dimension is " + std::to_string(config.head_dim) +
                           "; rotary embedding needs an even one");
  }
  for (const auto& [name, value] : {std::pair("rms_norm_eps", config.rms_norm_eps),
                                    std::pair("rope_theta", config.rope_theta)}) {
    if (!(value > 0) || !std::isfinite(value)) {
      return InvalidArgument(std::string("'") + name + "' is " + std::to_string(value) +
                             "; expected a number above 0");
    }
  }
  return OkStatus();
}

StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view origin) {
  return GuardExceptions(origin, [&]() -> StatusOr<ModelConfig> {
    const Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return InvalidArgument(std::string(origin) + ": not a JSON object");
    }
    Reader reader(json, origin);
    ModelConfig config;
    ReadArchitecture(reader, config);
    ReadSizes(reader, config);
    reader.MustBe("hidden_act", "silu");
    reader.MustBe("attention_bias", false);
    reader.MustBe("mlp_bias", false);
    for (const char* key : {"sliding_window", "quantization_config"}) {
      const Json* value = reader.Find(key);
      if (value != nullptr) reader.Fail(std::string("'") + key + "' is set; not supported");
    }
    config.rms_norm_eps = reader.DoubleOr("rms_norm_eps", 1e-6);
    ReadRope(reader, origin, config);
    config.tie_word_embeddings = reader.BoolOr("tie_word_embeddings", false);
    ROLLCALL_RETURN_IF_ERROR(reader.status());
    ReadEosTokens(reader, config);
    config.bos_token_id = ReadTokenId(reader, "bos_token_id", config);
    config.pad_token_id = ReadTokenId(reader, "pad_token_id", config);
    ROLLCALL_RETURN_IF_ERROR(reader.status());
    ROLLCALL_RETURN_IF_ERROR(Annotate(ValidateModelConfig(config), origin));
    return config;
  });
}

std::string ModelConfigToJson(const ModelConfig& config) {
  nlohmann::ordered_json json;
  json["architectures"] = {config.architecture};
  json["model_type"] = config.model_type;
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.num_layers;
  json["num_attention_heads"] = config.num_heads;
  json["num_key_value_heads"] = config.num_kv_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.max_positions;
  json["hidden_act"] = "silu";
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", config.rope_theta}};
  json["tie_word_embeddings"] = config.tie_word_embeddings;
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
  json["torch_dtype"] = "float32";
  json["dtype"] = "float32";
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
