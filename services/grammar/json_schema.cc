#include "services/grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/grammar/json_text.h"

namespace rollcall {
namespace {

using nlohmann::ordered_json;
using Piece = AutomatonBuilder::Piece;

constexpr std::array<std::string_view, 24> kKeywords = {"type",
                                                        "properties",
                                                        "required",
                                                        "additionalProperties",
                                                        "items",
                                                        "prefixItems",
                                                        "minItems",
                                                        "maxItems",
                                                        "pattern",
                                                        "minLength",
                                                        "maxLength",
                                                        "minimum",
                                                        "maximum",
                                                        "exclusiveMinimum",
                                                        "exclusiveMaximum",
                                                        "enum",
                                                        "const",
                                                        "anyOf",
                                                        "oneOf",
                                                        "allOf",
                                                        "$ref",
                                                        "$defs",
                                                        "definitions",
                                                        "$anchor"};
constexpr std::array<std::string_view, 13> kAnnotations = {
    "title",    "description", "default", "examples",   "$schema", "$id",        "$comment",
    "readOnly", "writeOnly",   "format",  "deprecated", "example", "$vocabulary"};
const std::vector<std::string> kAllTypes = {"object",  "array",   "string", "number",
                                            "integer", "boolean", "null"};

template <typename List>
bool Has(const List& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const ordered_json& document) : document_(document), text_(&builder_) {}

  StatusOr<ByteAutomaton> Compile() {
    const int32_t root = RuleOf(document_, "#", 0);
    ROLLCALL_RETURN_IF_ERROR(error_);
    return builder_.Finish(root);
  }

 private:
  Piece Fail(const std::string& where, const std::string& what) {
    if (error_.ok()) error_ = InvalidArgument("json_schema " + where + ": " + what);
    return builder_.Empty();
  }

  // Nothing matches.
  Piece Never() { return {builder_.AddState(), builder_.AddState()}; }

  // Schemas that are referred to are rules, so that they may be recursive.
  int32_t RuleOf(const ordered_json& schema, const std::string& where, int depth) {
    const auto [it, is_new] = rules_.try_emplace(&schema, 0);
    if (!is_new) return it->second;
    const int32_t rule = builder_.DeclareRule();
    it->second = rule;
    builder_.SetBody(rule, Value(schema, where, depth));
    return rule;
  }

  Piece Value(const ordered_json& schema, const std::string& where, int depth) {
    if (!error_.ok() || builder_.is_full()) return builder_.Empty();
    if (depth > GrammarLimits::kMaxNesting) return Fail(where, "nested too deeply");
    if (schema.is_boolean()) return schema.get<bool>() ? text_.AnyValue() : Never();
    if (!schema.is_object()) return Fail(where, "a schema is an object, true or false");
    for (const auto& [key, unused] : schema.items()) {
      if (!Has(kKeywords, key) && !Has(kAnnotations, key) && !key.starts_with("x-")) {
        return Fail(where, "'" + key + "' is not supported");
      }
    }
    if (schema.contains("$ref")) return Reference(schema, where, depth);
    for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
      if (schema.contains(choice)) return Choice(schema, choice, where, depth);
    }
    if (schema.contains("const")) return builder_.Text(schema["const"].dump());
    if (schema.contains("enum")) return Enumeration(schema["enum"], where);
    std::vector<Piece> pieces;
    for (const std::string& type : TypesOf(schema, where)) {
      pieces.push_back(OfType(type, schema, where, depth));
    }
    return pieces.size() == 1 ? pieces.front() : builder_.Alternatives(pieces);
  }

  // Keys beside `key` that would restrict the value further.
  bool HasOtherKeywords(const ordered_json& schema, std::string_view key) const {
    for (const auto& [other, unused] : schema.items()) {
      if (other != key && other != "$defs" && other != "definitions" && Has(kKeywords, other)) {
        return true;
      }
    }
    return false;
  }

  Piece Reference(const ordered_json& schema, const std::string& where, int depth) {
    const ordered_json& value = schema["$ref"];
    if (!value.is_string()) return Fail(where, "$ref is a text");
    if (HasOtherKeywords(schema, "$ref")) return Fail(where, "$ref beside other keywords");
    const auto reference = value.get<std::string>();
    if (reference != "#" && !reference.starts_with("#/")) {
      return Fail(where, "$ref '" + reference + "' does not point into the document (\"#/...\")");
    }
    const ordered_json* target = &document_;
    try {
      target = &document_.at(ordered_json::json_pointer(reference.substr(1)));
    } catch (const ordered_json::exception&) {
      return Fail(where, "$ref '" + reference + "' points to nothing");
    }
    return builder_.Call(RuleOf(*target, reference, depth + 1));
  }

  Piece Choice(const ordered_json& schema, const std::string& key, const std::string& where,
               int depth) {
    const ordered_json& list = schema[key];
    if (!list.is_array() || list.empty()) return Fail(where, key + " is a list of schemas");
    // The type beside alternatives that name theirs is often written; it adds nothing then.
    if (HasOtherKeywords(schema, key) && !TypeIsImplied(schema, key)) {
      return Fail(where, key + " beside other keywords");
    }
    if (key == "allOf" && list.size() > 1) return Fail(where, "allOf of more than one schema");
    if (key == "oneOf" && !AreApart(list)) {
      return Fail(where,
                  "alternatives of oneOf may overlap; tell them apart by type, or by a "
                  "required property of different constants, or use anyOf");
    }
    std::vector<Piece> pieces;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string place = where + "/" + key + "/" + std::to_string(i);
      pieces.push_back(builder_.Call(RuleOf(list[i], place, depth + 1)));
    }
    return builder_.Alternatives(pieces);
  }

  static bool TypeIsImplied(const ordered_json& schema, const std::string& key) {
    for (const auto& [other, unused] : schema.items()) {
      if (other != key && other != "type" && other != "$defs" && other != "definitions" &&
          Has(kKeywords, other)) {
        return false;
      }
    }
    return std::all_of(schema[key].begin(), schema[key].end(), [&](const ordered_json& item) {
      return item.is_object() && item.contains("type") && item["type"] == schema["type"];
    });
  }

  const ordered_json* Resolved(const ordered_json& schema) const {
    const ordered_json* at = &schema;
    for (int hops = 0; hops < 8 && at->is_object() && at->contains("$ref"); ++hops) {
      const ordered_json& value = (*at)["$ref"];
      if (!value.is_string() || !value.get<std::string>().starts_with("#")) break;
      try {
        at = &document_.at(ordered_json::json_pointer(value.get<std::string>().substr(1)));
      } catch (const ordered_json::exception&) {
        break;
      }
    }
    return at;
  }

  // No value satisfies two of the schemas, for one of the reasons that are easy to see.
  bool AreApart(const ordered_json& list) const {
    std::set<std::string> seen;
    bool by_type = true;
    for (const ordered_json& item : list) {
      const ordered_json& schema = *Resolved(item);
      if (!schema.is_object() || !schema.contains("type") || !schema["type"].is_string()) {
        by_type = false;
        break;
      }
      auto type = schema["type"].get<std::string>();
      if (type == "integer") type = "number";
      by_type = by_type && seen.insert(type).second;
    }
    if (by_type) return true;
    const ordered_json& first = *Resolved(list[0]);
    if (!first.is_object() || !first.contains("properties") || !first["properties"].is_object()) {
      return false;
    }
    for (const auto& [name, unused] : first["properties"].items()) {
      std::set<std::string> constants;
      const bool apart = std::all_of(list.begin(), list.end(), [&](const ordered_json& item) {
        const ordered_json& schema = *Resolved(item);
        if (!schema.is_object() || !schema.contains("properties") ||
            !schema["properties"].is_object() || !schema["properties"].contains(name) ||
            !schema.contains("required") || !Has(schema["required"], name)) {
          return false;
        }
        const ordered_json& property = schema["properties"][name];
        return property.is_object() && property.contains("const") &&
               constants.insert(property["const"].dump()).second;
      });
      if (apart) return true;
    }
    return false;
  }

  Piece Enumeration(const ordered_json& values, const std::string& where) {
    if (!values.is_array() || values.empty()) return Fail(where, "enum is a list of values");
    std::vector<Piece> pieces;
    for (const ordered_json& value : values) pieces.push_back(builder_.Text(value.dump()));
    return builder_.Alternatives(pieces);
  }

  std::vector<std::string> TypesOf(const ordered_json& schema, const std::string& where) {
    if (!schema.contains("type")) {
      const auto has_any = [&](std::initializer_list<const char*> keys) {
        return std::any_of(keys.begin(), keys.end(),
                           [&](const char* key) { return schema.contains(key); });
      };
      if (has_any({"properties", "required", "additionalProperties"})) return {"object"};
      if (has_any({"items", "prefixItems", "minItems", "maxItems"})) return {"array"};
      if (has_any({"pattern", "minLength", "maxLength"})) return {"string"};
      if (has_any({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) {
        return {"number"};
      }
      return {"any"};
    }
    const ordered_json& type = schema["type"];
    std::vector<std::string> types;
    for (const ordered_json& item : type.is_array() ? type : ordered_json::array({type})) {
      if (!item.is_string() || !Has(kAllTypes, item.get<std::string>())) {
        Fail(where, "type " + item.dump() + " is not known");
        return {};
      }
      types.push_back(item.get<std::string>());
    }
    if (types.empty()) Fail(where, "type names nothing");
    return types;
  }

  Piece OfType(const std::string& type, const ordered_json& schema, const std::string& where,
               int depth) {
    if (type == "object") return Object(schema, where, depth);
    if (type == "array") return Array(schema, where, depth);
    if (type == "string") return String(schema, where);
    if (type == "number") return Number(schema, where);
    if (type == "integer") return Integer(schema, where);
    if (type == "boolean") return text_.Expression("true|false");
    if (type == "null") return builder_.Text("null");
    return text_.AnyValue();
  }

  // A count >= 0 of the schema, -1 where it is not given.
  int Count(const ordered_json& schema, const char* key, const std::string& where) {
    if (!schema.contains(key)) return -1;
    const ordered_json& value = schema[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
        value.get<int64_t>() > GrammarLimits::kMaxRepeats) {
      Fail(where, std::string(key) + " is a number from 0 to " +
                      std::to_string(GrammarLimits::kMaxRepeats));
      return 0;
    }
    return static_cast<int>(value.get<int64_t>());
  }

  Piece String(const ordered_json& schema, const std::string& where) {
    const int min = Count(schema, "minLength", where);
    const int max = Count(schema, "maxLength", where);
    if (max >= 0 && max < min) return Never();
    if (!schema.contains("pattern")) return text_.String(std::max(min, 0), max);
    if (min >= 0 || max >= 0) return Fail(where, "pattern beside minLength or maxLength");
    if (!schema["pattern"].is_string()) return Fail(where, "pattern is a text");
    const auto alternatives = ParseRegex(schema["pattern"].get<std::string>());
    if (!alternatives.ok()) return Fail(where, Message(alternatives.status()));
    return text_.Pattern(*alternatives);
  }

  // The value, when the key is there and is a number of a reasonable size.
  std::optional<double> Bound(const ordered_json& schema, const char* key,
                              const std::string& where) {
    if (!schema.contains(key)) return std::nullopt;
    constexpr double kLargest = 1e15;  // whole numbers up to here are exact
    if (!schema[key].is_number() || !(std::abs(schema[key].get<double>()) <= kLargest)) {
      Fail(where, std::string(key) + " is a number of at most 1e15");
      return std::nullopt;
    }
    return schema[key].get<double>();
  }

  Piece Integer(const ordered_json& schema, const std::string& where) {
    std::optional<int64_t> min;
    std::optional<int64_t> max;
    const auto raise = [&min](double value) {
      const auto whole = static_cast<int64_t>(value);
      min = min ? std::max(*min, whole) : whole;
    };
    const auto lower = [&max](double value) {
      const auto whole = static_cast<int64_t>(value);
      max = max ? std::min(*max, whole) : whole;
    };
    if (const auto b = Bound(schema, "minimum", where)) raise(std::ceil(*b));
    if (const auto b = Bound(schema, "exclusiveMinimum", where)) raise(std::floor(*b) + 1);
    if (const auto b = Bound(schema, "maximum", where)) lower(std::floor(*b));
    if (const auto b = Bound(schema, "exclusiveMaximum", where)) lower(std::ceil(*b) - 1);
    if (min && max && *min > *max) return Never();
    return text_.Integer(min, max);
  }

  Piece Number(const ordered_json& schema, const std::string& where) {
    const auto tighter = [&](const char* inclusive, const char* exclusive, bool upper) {
      std::optional<NumberBound> bound;
      for (const char* key : {inclusive, exclusive}) {
        const std::optional<double> value = Bound(schema, key, where);
        if (!value) continue;
        if (*value != std::floor(*value)) {
          Fail(where, std::string(key) + " of a number must be whole");
          continue;
        }
        const NumberBound next{static_cast<int64_t>(*value), key == exclusive};
        const bool is_tighter =
            !bound || (upper ? next.value < bound->value : next.value > bound->value);
        if (is_tighter || (next.value == bound->value && next.is_exclusive)) bound = next;
      }
      return bound;
    };
    const auto min = tighter("minimum", "exclusiveMinimum", false);
    const auto max = tighter("maximum", "exclusiveMaximum", true);
    if (min && max && min->value > max->value) return Never();
    return text_.Number(min, max);
  }

  Piece Array(const ordered_json& schema, const std::string& where, int depth) {
    const int min = std::max(Count(schema, "minItems", where), 0);
    const int max = Count(schema, "maxItems", where);
    if (max >= 0 && max < min) return Never();
    const bool has_prefix = schema.contains("prefixItems");
    const auto item = [&]() -> Piece {
      if (!schema.contains("items")) return text_.AnyValue();
      return builder_.Call(RuleOf(schema["items"], where + "/items", depth + 1));
    };
    if (!has_prefix) return text_.List("[", item, min, max, "]");
    const ordered_json& prefix = schema["prefixItems"];
    if (!prefix.is_array() || prefix.empty()) return Fail(where, "prefixItems is a list");
    const auto size = static_cast<int>(prefix.size());
    if (max >= 0 && max < size) return Fail(where, "maxItems below the number of prefixItems");
    std::vector<Piece> pieces = {builder_.Text("["), text_.Whitespace()};
    for (int i = 0; i < size; ++i) {
      if (i > 0) pieces.push_back(text_.Between(","));
      const std::string place = where + "/prefixItems/" + std::to_string(i);
      pieces.push_back(builder_.Call(RuleOf(prefix[static_cast<size_t>(i)], place, depth + 1)));
    }
    const int more_min = std::max(min - size, 0);
    if (schema.contains("items") || more_min > 0) {
      pieces.push_back(builder_.Repeat([&] { return text_.Sequence({text_.Between(","), item()}); },
                                       more_min, max < 0 ? -1 : max - size));
    }
    pieces.push_back(text_.Whitespace());
    pieces.push_back(builder_.Text("]"));
    return text_.Sequence(pieces);
  }

  Piece Object(const ordered_json& schema, const std::string& where, int depth);

  const ordered_json& document_;
  AutomatonBuilder builder_;
  JsonText text_;
  std::map<const ordered_json*, int32_t> rules_;
  Status error_;
};

Piece SchemaCompiler::Object(const ordered_json& schema, const std::string& where, int depth) {
  static const ordered_json empty = ordered_json::object();
  const ordered_json& properties = schema.contains("properties") ? schema["properties"] : empty;
  if (!properties.is_object()) return Fail(where, "properties is an object of schemas");
  std::set<std::string> required;
  if (schema.contains("required")) {
    if (!schema["required"].is_array()) return Fail(where, "required is a list of names");
    for (const ordered_json& name : schema["required"]) {
      if (!name.is_string()) return Fail(where, "required is a list of names");
      if (!properties.contains(name.get<std::string>())) {
        return Fail(where,
                    "required names '" + name.get<std::string>() + "', which is not in properties");
      }
      required.insert(name.get<std::string>());
    }
  }
  // Two tracks over the properties: nothing was written yet, or something was and a comma is due.
  const Piece whole = {builder_.AddState(), builder_.AddState()};
  const auto connect = [this](int32_t from, const Piece& piece, int32_t to) {
    builder_.AddEmptyEdge(from, piece.begin);
    builder_.AddEmptyEdge(piece.end, to);
  };
  int32_t nothing = builder_.AddState();
  int32_t something = builder_.AddState();
  connect(whole.begin, text_.Sequence({builder_.Text("{"), text_.Whitespace()}), nothing);
  std::vector<std::string> names;
  for (const auto& [name, property] : properties.items()) {
    names.push_back(name);
    const int32_t member = builder_.DeclareRule();
    builder_.SetBody(
        member, text_.Sequence(
                    {builder_.Text(ordered_json(name).dump()), text_.Between(":"),
                     builder_.Call(RuleOf(property, where + "/properties/" + name, depth + 1))}));
    const int32_t still_nothing = builder_.AddState();
    const int32_t now_something = builder_.AddState();
    connect(nothing, builder_.Call(member), now_something);
    connect(something, text_.Sequence({text_.Between(","), builder_.Call(member)}), now_something);
    if (!required.contains(name)) {
      builder_.AddEmptyEdge(nothing, still_nothing);
      builder_.AddEmptyEdge(something, now_something);
    }
    nothing = still_nothing;
    something = now_something;
  }
  const bool is_open = schema.contains("additionalProperties")
                           ? schema["additionalProperties"] != ordered_json(false)
                           : properties.empty();
  if (is_open) {
    const int32_t member = builder_.DeclareRule();
    const Piece value = schema.contains("additionalProperties")
                            ? builder_.Call(RuleOf(schema["additionalProperties"],
                                                   where + "/additionalProperties", depth + 1))
                            : text_.AnyValue();
    const Piece key = names.empty() ? text_.String(0, -1) : text_.StringExcept(names);
    builder_.SetBody(member, text_.Sequence({key, text_.Between(":"), value}));
    connect(nothing, builder_.Call(member), something);
    connect(something, text_.Sequence({text_.Between(","), builder_.Call(member)}), something);
  }
  const Piece close = text_.Sequence({text_.Whitespace(), builder_.Text("}")});
  builder_.AddEmptyEdge(nothing, close.begin);
  connect(something, close, whole.end);
  return whole;
}

}  // namespace

StatusOr<ByteAutomaton> CompileJsonSchema(std::string_view schema) {
  if (schema.size() > GrammarLimits::kMaxTextBytes) {
    return InvalidArgument("the JSON schema has " + std::to_string(schema.size()) +
                           " bytes, at most " + std::to_string(GrammarLimits::kMaxTextBytes) +
                           " are allowed");
  }
  const ordered_json document = ordered_json::parse(schema, nullptr, false);
  if (document.is_discarded()) return InvalidArgument("json_schema: it is no JSON");
  return SchemaCompiler(document).Compile();
}

}  // namespace rollcall
