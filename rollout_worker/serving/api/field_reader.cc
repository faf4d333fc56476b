#include "rollout_worker/serving/api/field_reader.h"

#include <cmath>
#include <limits>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace rollcall {
namespace {

constexpr size_t kMaxUnknownFields = 16;
constexpr size_t kMaxNameBytes = 64;

// An integer, also one that is written as 3.0.
std::optional<int64_t> AsInteger(const RowJson& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (std::trunc(number) != number || std::abs(number) > 9e15) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

std::optional<std::vector<int32_t>> ReadTokens(const RowJson& list, size_t max_items) {
  if (!list.is_array() || list.size() > max_items) return std::nullopt;
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  for (const RowJson& item : list) {
    if (!item.is_number_integer()) return std::nullopt;
    const auto token = AsInteger(item);
    if (!token || *token < 0 || *token > std::numeric_limits<int32_t>::max()) return std::nullopt;
    tokens.push_back(static_cast<int32_t>(*token));
  }
  return tokens;
}

const RowJson* FieldReader::Any(std::string_view name) {
  known_.emplace(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void FieldReader::Fail(std::string_view name, std::string message) {
  if (!error_) error_ = BadField(std::string(name), std::move(message));
}

void FieldReader::Skip(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) known_.emplace(name);
}

bool FieldReader::Bool(std::string_view name, bool fallback) {
  const RowJson* value = Any(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, fmt::format("'{}' must be true or false, got {}", name, value->type_name()));
  return fallback;
}

std::optional<int64_t> FieldReader::Integer(std::string_view name, int64_t min, int64_t max) {
  const RowJson* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const auto number = AsInteger(*value);
  if (number && *number >= min && *number <= max) return number;
  const std::string got = value->is_number() ? value->dump() : value->type_name();
  Fail(name, fmt::format("'{}' must be an integer from {} to {}, got {}", name, min, max, got));
  return std::nullopt;
}

std::optional<double> FieldReader::Number(std::string_view name, double min, double max) {
  const RowJson* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= min && number <= max) return number;
  }
  const std::string got = value->is_number() ? value->dump() : value->type_name();
  Fail(name, fmt::format("'{}' must be a number from {} to {}, got {}", name, min, max, got));
  return std::nullopt;
}

std::optional<std::string> FieldReader::Text(std::string_view name, size_t max_bytes) {
  const RowJson* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    Fail(name, fmt::format("'{}' must be a string, got {}", name, value->type_name()));
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    Fail(name, fmt::format("'{}' is longer than {} bytes", name, max_bytes));
    return std::nullopt;
  }
  return text;
}

std::optional<std::vector<int32_t>> FieldReader::Tokens(std::string_view name, size_t max_items) {
  const RowJson* value = Any(name);
  if (value == nullptr) return std::nullopt;
  auto tokens = ReadTokens(*value, max_items);
  if (!tokens) {
    Fail(name, fmt::format("'{}' must be a list of at most {} token ids", name, max_items));
  }
  return tokens;
}

std::vector<std::string> FieldReader::Texts(std::string_view name, size_t max_items,
                                            size_t max_bytes) {
  const RowJson* value = Any(name);
  if (value == nullptr) return {};
  std::vector<std::string> texts;
  const RowJson list = value->is_array() ? *value : RowJson::array({*value});
  for (const RowJson& item : list) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > max_bytes ||
        texts.size() == max_items) {
      Fail(name, fmt::format("'{}' must be a string or at most {} strings of up to {} bytes", name,
                             max_items, max_bytes));
      return {};
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

const RowJson* FieldReader::Object(std::string_view name) {
  const RowJson* value = Any(name);
  if (value == nullptr || value->is_object()) return value;
  Fail(name, fmt::format("'{}' must be an object, got {}", name, value->type_name()));
  return nullptr;
}

std::vector<std::string> FieldReader::UnknownFields() const {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : object_.items()) {
    if (unknown.size() == kMaxUnknownFields) break;
    if (!known_.contains(name)) unknown.push_back(name.substr(0, kMaxNameBytes));
  }
  return unknown;
}

}  // namespace rollcall
