#include "services/model/config/json_reader.h"

#include <cmath>
#include <limits>

namespace rollcall {
namespace {

// Writing a value out takes a stack frame a level, and a file may nest without end.
bool IsShallow(const JsonReader::Json& value, int levels) {
  if (!value.is_structured()) return true;
  if (levels == 0) return false;
  for (const auto& child : value) {
    if (!IsShallow(child, levels - 1)) return false;
  }
  return true;
}

}  // namespace

int64_t JsonReader::Int(const char* key, int64_t low, int64_t high) {
  const Json* value = Find(key);
  if (value == nullptr) {
    Fail(std::string("'") + key + "' is missing; expected an integer");
    return low;
  }
  return CheckedInt(key, *value, low, high);
}

int64_t JsonReader::IntOr(const char* key, int64_t low, int64_t high, int64_t fallback) {
  const Json* value = Find(key);
  return value == nullptr ? fallback : CheckedInt(key, *value, low, high);
}

double JsonReader::Double(const char* key) {
  if (Find(key) == nullptr) {
    Fail(std::string("'") + key + "' is missing; expected a number above 0");
    return 1;
  }
  return DoubleOr(key, 1);
}

double JsonReader::DoubleOr(const char* key, double fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>())) {
    Fail(std::string("'") + key + "' is " + Dump(*value) + "; expected a number above 0");
    return fallback;
  }
  return value->get<double>();
}

std::vector<double> JsonReader::Doubles(const char* key, size_t most) {
  const Json* value = Find(key);
  std::vector<double> numbers;
  if (value == nullptr || !value->is_array() || value->size() > most) {
    Fail(std::string("'") + key + "' is " + (value == nullptr ? "missing" : Dump(*value)) +
         "; expected a list of at most " + std::to_string(most) + " numbers");
    return numbers;
  }
  for (const Json& number : *value) {
    if (!number.is_number()) {
      Fail(std::string("'") + key + "' holds " + Dump(number) + "; expected numbers");
      return numbers;
    }
    numbers.push_back(number.get<double>());
  }
  return numbers;
}

bool JsonReader::BoolOr(const char* key, bool fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(std::string("'") + key + "' is " + Dump(*value) + "; expected true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonReader::TextOr(const char* key, const std::string& fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    Fail(std::string("'") + key + "' is " + Dump(*value) + "; expected text");
    return fallback;
  }
  return value->get<std::string>();
}

void JsonReader::MustBe(const char* key, const Json& wanted) {
  const Json* value = Find(key);
  if (value != nullptr && *value != wanted) {
    Fail(std::string("'") + key + "' is " + Dump(*value) + "; only " + wanted.dump() +
         " is supported");
  }
}

void JsonReader::MustBeOff(const char* key, const char* what) {
  const Json* value = Find(key);
  if (value == nullptr || *value == false || *value == 0 || value->empty()) return;
  Fail(std::string("'") + key + "' is " + Dump(*value) + "; " + what + " is not supported");
}

const JsonReader::Json* JsonReader::Find(const char* key) const {
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonReader::IsNull(const char* key) const {
  const auto it = json_.find(key);
  return it != json_.end() && it->is_null();
}

void JsonReader::Fail(const std::string& message) const {
  if (status_->ok()) *status_ = InvalidArgument(std::string(origin_) + ": " + scope_ + message);
}

std::string JsonReader::Dump(const Json& value) {
  if (!IsShallow(value, 4)) return value.is_array() ? "a nested list" : "a nested object";
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

int64_t JsonReader::CheckedInt(const char* key, const Json& value, int64_t low,
                               int64_t high) const {
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

}  // namespace rollcall
