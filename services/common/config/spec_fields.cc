#include "services/common/config/spec_fields.h"

#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <google/protobuf/duration.pb.h>

#include "services/common/config/duration_text.h"

namespace rollcall {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using google::protobuf::Reflection;

namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr int64_t kMaxDurationSeconds = 30LL * 24 * 3600;

std::string Lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// Choices of an enum; value 0 is "unspecified" and cannot be written.
std::string ChoicesText(const EnumDescriptor& type) {
  std::string text;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() == 0) continue;
    if (!text.empty()) text += i + 1 == type.value_count() ? " or " : ", ";
    text += Lower(type.value(i)->name());
  }
  return text;
}

Status Expected(std::string_view what, std::string_view text) {
  const std::string got =
      text.size() > 60 ? std::string(text.substr(0, 57)) + "..." : std::string(text);
  return InvalidArgument(fmt::format("expected {}, got '{}'", what, got));
}

template <typename T>
bool ParseWhole(std::string_view text, T* value) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool ParseReal(std::string_view text, double* value) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() &&
         std::isfinite(*value);
}

// A whole number that does not fit its type is out of range rather than of the wrong type.
template <typename T>
Status BadWhole(std::string_view text) {
  double real = 0;
  if (ParseReal(text, &real) && real == std::floor(real) &&
      text.find_first_of(".eE") == std::string_view::npos) {
    return InvalidArgument(fmt::format("{} is out of range; allowed is {} to {}", text,
                                       std::numeric_limits<T>::min(),
                                       std::numeric_limits<T>::max()));
  }
  return Expected("a whole number", text);
}

double NumberOf(const ProtoMessage& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetFloat(message, &field);
    default:
      return 0;
  }
}

}  // namespace

const v1::FieldRules& RulesOf(const FieldDescriptor& field) {
  return field.options().GetExtension(v1::rules);
}

bool IsDuration(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field.message_type() == google::protobuf::Duration::descriptor();
}

bool IsSection(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_map() &&
         !IsDuration(field);
}

std::string TypeText(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "whole number";
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return ChoicesText(*field.enum_type());
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return IsDuration(field) ? "duration" : "mapping";
  }
  return "";
}

std::string RangeText(const FieldDescriptor& field) {
  const v1::FieldRules& rules = RulesOf(field);
  std::string low;
  std::string high;
  if (rules.has_min()) {
    low = fmt::format("{} {}", rules.exclusive_min() ? "more than" : "at least", rules.min());
  }
  if (rules.has_max()) {
    high = fmt::format("{} {}", rules.exclusive_max() ? "less than" : "at most", rules.max());
  }
  if (rules.has_min() && rules.has_max()) {
    if (!rules.exclusive_min() && !rules.exclusive_max()) {
      // Whole numbers up to 2^53 would otherwise come out as 1e+09.
      return fmt::format("{:.15g} to {:.15g}", rules.min(), rules.max());
    }
    return low + " and " + high;
  }
  return low + high;
}

Status SetSetting(std::string_view text, const FieldDescriptor& field, ProtoMessage* message) {
  const Reflection& reflection = *message->GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (!ParseWhole(text, &value)) return BadWhole<int32_t>(text);
      reflection.SetInt32(message, &field, value);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (!ParseWhole(text, &value)) return BadWhole<int64_t>(text);
      reflection.SetInt64(message, &field, value);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value = 0;
      if (!ParseWhole(text, &value)) return BadWhole<uint32_t>(text);
      reflection.SetUInt32(message, &field, value);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      if (!ParseWhole(text, &value)) return BadWhole<uint64_t>(text);
      reflection.SetUInt64(message, &field, value);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT: {
      double value = 0;
      if (!ParseReal(text, &value)) return Expected("a number", text);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
        reflection.SetDouble(message, &field, value);
      } else {
        reflection.SetFloat(message, &field, static_cast<float>(value));
      }
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return Expected("true or false", text);
      reflection.SetBool(message, &field, text == "true");
      return OkStatus();
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumDescriptor& type = *field.enum_type();
      for (int i = 0; i < type.value_count(); ++i) {
        const EnumValueDescriptor& value = *type.value(i);
        if (value.number() != 0 && Lower(value.name()) == text) {
          reflection.SetEnum(message, &field, &value);
          return OkStatus();
        }
      }
      return Expected(ChoicesText(type), text);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.SetString(message, &field, std::string(text));
      return OkStatus();
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      ROLLCALL_CHECK(IsDuration(field), "not a setting");
      ROLLCALL_ASSIGN_OR_RETURN(const absl::Duration duration, ParseDurationText(text));
      auto* value =
          static_cast<google::protobuf::Duration*>(reflection.MutableMessage(message, &field));
      const int64_t milliseconds = absl::ToInt64Milliseconds(duration);
      value->set_seconds(milliseconds / 1000);
      value->set_nanos(static_cast<int32_t>(milliseconds % 1000 * 1'000'000));
      return OkStatus();
    }
  }
  return Internal("field type without a YAML form: " + field.full_name());
}

std::string SettingText(const ProtoMessage& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(reflection.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return fmt::format("{}", reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return fmt::format("{}", reflection.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = reflection.GetEnumValue(message, &field);
      const EnumValueDescriptor* value = field.enum_type()->FindValueByNumber(number);
      return value == nullptr ? std::to_string(number) : Lower(value->name());
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const auto& value =
          static_cast<const google::protobuf::Duration&>(reflection.GetMessage(message, &field));
      return DurationText(absl::Seconds(value.seconds()) + absl::Nanoseconds(value.nanos()));
    }
  }
  return "";
}

Status CheckTextSize(std::string_view text) {
  if (text.size() <= kMaxTextBytes) return OkStatus();
  return InvalidArgument(
      fmt::format("{} bytes of text; at most {} are allowed", text.size(), kMaxTextBytes));
}

Status CheckSettingRange(const ProtoMessage& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  if (IsDuration(field)) {
    const auto& value =
        static_cast<const google::protobuf::Duration&>(reflection.GetMessage(message, &field));
    const bool normal = value.nanos() >= 0 && value.nanos() < 1'000'000'000;
    if (!normal || value.seconds() < 0 || value.seconds() > kMaxDurationSeconds ||
        (value.seconds() == 0 && value.nanos() < 1'000'000)) {
      return InvalidArgument(SettingText(message, field) +
                             " is out of range; allowed is 1ms to 720h");
    }
    return OkStatus();
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    return CheckTextSize(reflection.GetString(message, &field));
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const int number = reflection.GetEnumValue(message, &field);
    if (number == 0 || field.enum_type()->FindValueByNumber(number) == nullptr) {
      return InvalidArgument(fmt::format("{} is no value of it; allowed is {}", number,
                                         ChoicesText(*field.enum_type())));
    }
    return OkStatus();
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL) return OkStatus();
  const v1::FieldRules& rules = RulesOf(field);
  const double value = NumberOf(message, field);
  if (!std::isfinite(value)) return InvalidArgument(SettingText(message, field) + " is no number");
  const bool above_min =
      !rules.has_min() || (rules.exclusive_min() ? value > rules.min() : value >= rules.min());
  const bool below_max =
      !rules.has_max() || (rules.exclusive_max() ? value < rules.max() : value <= rules.max());
  if (above_min && below_max) return OkStatus();
  return InvalidArgument(fmt::format("{} is out of range; allowed is {}",
                                     SettingText(message, field), RangeText(field)));
}

}  // namespace rollcall
