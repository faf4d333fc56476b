#include "services/common/text/json_fields.h"

#include <algorithm>

#include "services/common/text/utf8.h"

namespace rollcall {

using Json = TokenizerJson;

Status WrongField(std::string_view key, std::string_view what) {
  return InvalidArgument(std::string(key) + ": " + std::string(what));
}

std::string ShortJson(const Json& value) {
  // Large values are not written out only to be cut.
  if (value.is_structured() && value.size() > 16) {
    return std::string(value.is_array() ? "a list of " : "an object of ") +
           std::to_string(value.size());
  }
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = std::string(TruncateUtf8(text, 77)) + "...";
  return text;
}

Status NotSupported(std::string_view key, const Json& value, std::string_view supported) {
  return WrongField(key,
                    ShortJson(value) + " is not supported; supported: " + std::string(supported));
}

Status CheckKeys(const Json& object, std::string_view where,
                 std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return WrongField(where, "is not an object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return WrongField(where, "key '" + key + "' is not supported");
    }
  }
  return OkStatus();
}

std::string TypeOf(const Json& object) {
  if (!object.is_object()) return "";
  const auto it = object.find("type");
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

StatusOr<bool> GetBool(const Json& object, std::string_view where, const char* key,
                       bool absent_value) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return absent_value;
  if (!it->is_boolean()) return WrongField(where, std::string(key) + " is not true or false");
  return it->get<bool>();
}

StatusOr<std::optional<std::string>> GetString(const Json& object, std::string_view where,
                                               const char* key, size_t max_bytes) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return std::optional<std::string>();
  if (!it->is_string()) return WrongField(where, std::string(key) + " is not a text");
  const auto& text = it->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    return WrongField(where, std::string(key) + " has " + std::to_string(text.size()) +
                                 " bytes, the limit is " + std::to_string(max_bytes));
  }
  return std::optional<std::string>(text);
}

StatusOr<char32_t> GetCharacter(const Json& object, std::string_view where, const char* key) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::optional<std::string> text, GetString(object, where, key));
  if (text && !text->empty()) {
    const Utf8Step step = DecodeUtf8(*text, 0);
    if (step.valid && step.num_bytes == text->size()) return step.code_point;
  }
  return WrongField(where, std::string(key) + " is not one character");
}

StatusOr<int64_t> GetCount(const Json& object, std::string_view where, const char* key,
                           int64_t limit) {
  const auto it = object.find(key);
  const Json value = it == object.end() ? Json() : *it;
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= limit) {
    return WrongField(where, std::string(key) + ": " + ShortJson(value) + " is not in [0, " +
                                 std::to_string(limit) + ")");
  }
  return value.get<int64_t>();
}

StatusOr<int32_t> GetTokenId(const Json& value, std::string_view where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() >= kMaxTokenId) {
    return WrongField(
        where, "id " + ShortJson(value) + " is not in [0, " + std::to_string(kMaxTokenId) + ")");
  }
  return static_cast<int32_t>(value.get<int64_t>());
}

StatusOr<Pattern> GetPattern(const Json& object, const std::string& where) {
  const std::string key = where + ".pattern";
  const auto it = object.find("pattern");
  const bool is_one = it != object.end() && it->is_object() && it->size() == 1;
  for (const char* kind : {"String", "Regex"}) {
    if (!is_one || !it->contains(kind) || !(*it)[kind].is_string()) continue;
    const auto& text = (*it)[kind].get_ref<const std::string&>();
    StatusOr<Pattern> pattern =
        std::string_view(kind) == "String" ? Pattern::Text(text) : Pattern::RegularExpression(text);
    if (!pattern.ok()) return Annotate(pattern.status(), key);
    return pattern;
  }
  return NotSupported(key, it == object.end() ? Json() : *it,
                      "{\"String\": ...}, {\"Regex\": ...}");
}

StatusOr<const Json*> GetList(const Json& object, std::string_view where, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array() || it->size() > kMaxSteps) {
    return WrongField(where,
                      std::string(key) + " is not a list of at most " + std::to_string(kMaxSteps));
  }
  return &*it;
}

}  // namespace rollcall
