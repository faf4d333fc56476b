#include "services/model/config/rope_json.h"

#include <array>

namespace rollcall {
namespace {

constexpr int64_t kMaxContext = int64_t{1} << 24;
constexpr size_t kMaxFactors = 4096;

constexpr std::array kTypes = {RopeType::kDefault, RopeType::kLinear, RopeType::kDynamic,
                               RopeType::kLlama3,  RopeType::kYarn,   RopeType::kLongRope};

RopeType ReadType(JsonReader& reader) {
  const char* key = reader.Find("rope_type") != nullptr ? "rope_type" : "type";
  const std::string name = reader.TextOr(key, "default");
  if (name == "su") return RopeType::kLongRope;  // its first name
  std::string known;
  for (const RopeType type : kTypes) {
    if (name == RopeTypeName(type)) return type;
    known += (known.empty() ? "" : ", ") + std::string(RopeTypeName(type));
  }
  reader.Fail(std::string("'") + key + "' is " + JsonReader::Dump(name) + "; known: " + known);
  return RopeType::kDefault;
}

}  // namespace

void ReadRopeObject(JsonReader& reader, const PartialRotary& partial, int64_t max_positions,
                    RopeConfig& rope) {
  rope.type = ReadType(reader);
  rope.theta = reader.DoubleOr("rope_theta", rope.theta);
  if (partial.key != nullptr) {
    rope.partial_factor = reader.DoubleOr("partial_rotary_factor", rope.partial_factor);
  } else {
    reader.MustBe("partial_rotary_factor", 1.0);
  }
  const auto read_context = [&] {
    rope.original_max_positions =
        reader.IntOr("original_max_position_embeddings", 2, kMaxContext,
                     rope.original_max_positions > 0 ? rope.original_max_positions : max_positions);
  };
  switch (rope.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
    case RopeType::kDynamic:
      rope.factor = reader.Double("factor");
      break;
    case RopeType::kLlama3:
      rope.factor = reader.Double("factor");
      rope.low_freq_factor = reader.Double("low_freq_factor");
      rope.high_freq_factor = reader.Double("high_freq_factor");
      read_context();
      break;
    case RopeType::kYarn:
      rope.factor = reader.DoubleOr("factor", 0);
      rope.attention_factor = reader.DoubleOr("attention_factor", 0);
      rope.beta_fast = reader.DoubleOr("beta_fast", 32.0);
      rope.beta_slow = reader.DoubleOr("beta_slow", 1.0);
      rope.mscale = reader.DoubleOr("mscale", 0);
      rope.mscale_all_dim = reader.DoubleOr("mscale_all_dim", 0);
      rope.is_truncated = reader.BoolOr("truncate", true);
      read_context();
      break;
    case RopeType::kLongRope:
      rope.factor = reader.DoubleOr("factor", 0);
      rope.attention_factor = reader.DoubleOr("attention_factor", 0);
      rope.short_factor = reader.Doubles("short_factor", kMaxFactors);
      rope.long_factor = reader.Doubles("long_factor", kMaxFactors);
      read_context();
      break;
  }
}

RopeConfig ReadRope(JsonReader& reader, const char* theta_key, double default_theta,
                    const PartialRotary& partial, int64_t max_positions) {
  RopeConfig rope;
  rope.theta = reader.DoubleOr(theta_key, default_theta);
  if (partial.key != nullptr) {
    rope.partial_factor = reader.DoubleOr(partial.key, partial.fallback);
  } else {
    reader.MustBe("partial_rotary_factor", 1.0);
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const JsonReader::Json* object = reader.Find(key);
    if (object == nullptr) continue;
    if (!object->is_object()) {
      reader.Fail(std::string("'") + key + "' is " + JsonReader::Dump(*object) +
                  "; expected an object");
      return rope;
    }
    if (object->empty()) continue;
    JsonReader inner = reader.Inside(*object, key);
    ReadRopeObject(inner, partial, max_positions, rope);
    break;  // transformers prefers the older key
  }
  return rope;
}

nlohmann::ordered_json RopeToJson(const RopeConfig& rope) {
  nlohmann::ordered_json json;
  json["rope_type"] = RopeTypeName(rope.type);
  json["rope_theta"] = rope.theta;
  if (rope.partial_factor != 1.0) json["partial_rotary_factor"] = rope.partial_factor;
  const auto put = [&json](const char* key, double value) {
    if (value > 0) json[key] = value;
  };
  switch (rope.type) {
    case RopeType::kDefault:
      return json;
    case RopeType::kLinear:
    case RopeType::kDynamic:
      json["factor"] = rope.factor;
      return json;
    case RopeType::kLlama3:
      json["factor"] = rope.factor;
      json["low_freq_factor"] = rope.low_freq_factor;
      json["high_freq_factor"] = rope.high_freq_factor;
      break;
    case RopeType::kYarn:
      json["factor"] =
          rope.factor > 0 ? nlohmann::ordered_json(rope.factor) : nlohmann::ordered_json();
      put("attention_factor", rope.attention_factor);
      json["beta_fast"] = rope.beta_fast;
      json["beta_slow"] = rope.beta_slow;
      put("mscale", rope.mscale);
      put("mscale_all_dim", rope.mscale_all_dim);
      json["truncate"] = rope.is_truncated;
      break;
    case RopeType::kLongRope:
      put("factor", rope.factor);
      put("attention_factor", rope.attention_factor);
      json["short_factor"] = rope.short_factor;
      json["long_factor"] = rope.long_factor;
      break;
  }
  json["original_max_position_embeddings"] = rope.original_max_positions;
  return json;
}

void WriteRope(const RopeConfig& rope, const char* theta_key, nlohmann::ordered_json& json) {
  json[theta_key] = rope.theta;
  json["rope_scaling"] =
      rope.type == RopeType::kDefault ? nlohmann::ordered_json() : RopeToJson(rope);
  json["rope_parameters"] = RopeToJson(rope);
}

}  // namespace rollcall
