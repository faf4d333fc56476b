#include "services/common/data/parquet/value_json.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string_view>

#include <arrow/array.h>
#include <arrow/extension_type.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

using arrow::Type;

Status InColumn(const std::string& column, std::string_view what) {
  return InvalidArgument("column '" + column + "': " + std::string(what));
}

template <typename Number>
void AppendNumber(Number value, std::string* out) {
  std::array<char, 40> digits{};
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  ROLLCALL_CHECK(error == std::errc());
  out->append(digits.data(), end);
}

// Keeps its point, as in the JSON that other programs write: 7.0 is no whole number.
void AppendReal(double value, std::string* out) {
  if (!std::isfinite(value)) {
    *out += "null";
    return;
  }
  const size_t begin = out->size();
  AppendNumber(value, out);
  if (out->find_first_of(".e", begin) == std::string::npos) *out += ".0";
}

int64_t UnitsPerSecond(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND:
      return 1;
    case arrow::TimeUnit::MILLI:
      return 1'000;
    case arrow::TimeUnit::MICRO:
      return 1'000'000;
    case arrow::TimeUnit::NANO:
      return 1'000'000'000;
  }
  return 1;
}

int64_t FloorDivide(int64_t value, int64_t divisor) {
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}

bool AppendDate(int64_t days, std::string* out) {
  constexpr int64_t kFirstDay = -719162;  // 0001-01-01
  constexpr int64_t kLastDay = 2932896;   // 9999-12-31
  if (days < kFirstDay || days > kLastDay) return false;
  const std::chrono::year_month_day date{
      std::chrono::sys_days(std::chrono::days(static_cast<int32_t>(days)))};
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  *out += text.data();
  return true;
}

// A fraction is written with six digits, with nine where six do not hold it, or not at all.
void AppendTimeOfDay(int64_t seconds, int64_t nanoseconds, std::string* out) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%02d:%02d:%02d", static_cast<int>(seconds / 3600),
                static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  *out += text.data();
  if (nanoseconds == 0) return;
  if (nanoseconds % 1000 == 0) {
    std::snprintf(text.data(), text.size(), ".%06d", static_cast<int>(nanoseconds / 1000));
  } else {
    std::snprintf(text.data(), text.size(), ".%09d", static_cast<int>(nanoseconds));
  }
  *out += text.data();
}

constexpr int64_t kSecondsPerDay = 86'400;

// A quoted time stamp of `value` units since the epoch.
bool AppendTimestamp(int64_t value, const arrow::TimestampType& type, std::string* out) {
  const int64_t per_second = UnitsPerSecond(type.unit());
  const int64_t seconds = FloorDivide(value, per_second);
  const int64_t fraction = value - seconds * per_second;
  const int64_t days = FloorDivide(seconds, kSecondsPerDay);
  *out += '"';
  if (!AppendDate(days, out)) return false;
  *out += 'T';
  AppendTimeOfDay(seconds - days * kSecondsPerDay, fraction * (1'000'000'000 / per_second), out);
  *out += type.timezone().empty() ? "\"" : "+00:00\"";
  return true;
}

bool AppendTime(int64_t value, arrow::TimeUnit::type unit, std::string* out) {
  const int64_t per_second = UnitsPerSecond(unit);
  if (value < 0 || value >= kSecondsPerDay * per_second) return false;
  *out += '"';
  AppendTimeOfDay(value / per_second, value % per_second * (1'000'000'000 / per_second), out);
  *out += '"';
  return true;
}

// Adds one value and what lies below it. The type was checked, so recursion is bounded by it.
class ValueWriter {
 public:
  ValueWriter(const JsonValueLimits& limits, std::string* out) : limits_(limits), out_(*out) {}

  Status Write(const arrow::Array& array, int64_t index, const std::string& column) {
    if (out_.size() > limits_.max_row_bytes) {
      return ResourceExhausted("column '" + column + "': the row has more than " +
                               std::to_string(limits_.max_row_bytes) + " bytes");
    }
    if (array.IsNull(index)) {
      out_ += "null";
      return OkStatus();
    }
    switch (array.type_id()) {
      case Type::NA:
        out_ += "null";
        return OkStatus();
      case Type::BOOL:
        out_ += Cast<arrow::BooleanArray>(array).Value(index) ? "true" : "false";
        return OkStatus();
      case Type::INT8:
        return Whole<arrow::Int8Array>(array, index);
      case Type::INT16:
        return Whole<arrow::Int16Array>(array, index);
      case Type::INT32:
        return Whole<arrow::Int32Array>(array, index);
      case Type::INT64:
        return Whole<arrow::Int64Array>(array, index);
      case Type::UINT8:
        return Whole<arrow::UInt8Array>(array, index);
      case Type::UINT16:
        return Whole<arrow::UInt16Array>(array, index);
      case Type::UINT32:
        return Whole<arrow::UInt32Array>(array, index);
      case Type::UINT64:
        return Whole<arrow::UInt64Array>(array, index);
      case Type::HALF_FLOAT:
        AppendReal(arrow::util::Float16::FromBits(Cast<arrow::HalfFloatArray>(array).Value(index))
                       .ToDouble(),
                   &out_);
        return OkStatus();
      case Type::FLOAT:
        AppendReal(Cast<arrow::FloatArray>(array).Value(index), &out_);
        return OkStatus();
      case Type::DOUBLE:
        AppendReal(Cast<arrow::DoubleArray>(array).Value(index), &out_);
        return OkStatus();
      case Type::STRING:
        return Text(Cast<arrow::StringArray>(array).GetView(index), column);
      case Type::LARGE_STRING:
        return Text(Cast<arrow::LargeStringArray>(array).GetView(index), column);
      case Type::STRING_VIEW:
        return Text(Cast<arrow::StringViewArray>(array).GetView(index), column);
      case Type::DECIMAL32:
        return Decimal<arrow::Decimal32Array>(array, index);
      case Type::DECIMAL64:
        return Decimal<arrow::Decimal64Array>(array, index);
      case Type::DECIMAL128:
        return Decimal<arrow::Decimal128Array>(array, index);
      case Type::DECIMAL256:
        return Decimal<arrow::Decimal256Array>(array, index);
      case Type::LIST:
        return List<arrow::ListArray>(array, index, column);
      case Type::LARGE_LIST:
        return List<arrow::LargeListArray>(array, index, column);
      case Type::FIXED_SIZE_LIST:
        return List<arrow::FixedSizeListArray>(array, index, column);
      case Type::LIST_VIEW:
        return List<arrow::ListViewArray>(array, index, column);
      case Type::LARGE_LIST_VIEW:
        return List<arrow::LargeListViewArray>(array, index, column);
      case Type::MAP:
        return Map(Cast<arrow::MapArray>(array), index, column);
      case Type::STRUCT:
        return Struct(Cast<arrow::StructArray>(array), index, column);
      case Type::DICTIONARY: {
        const auto& dictionary = Cast<arrow::DictionaryArray>(array);
        const int64_t place = dictionary.GetValueIndex(index);
        if (place < 0 || place >= dictionary.dictionary()->length()) {
          return InColumn(column, "a dictionary index is out of range");
        }
        return Write(*dictionary.dictionary(), place, column);
      }
      case Type::EXTENSION:
        return Write(*Cast<arrow::ExtensionArray>(array).storage(), index, column);
      default:
        return Temporal(array, index, column);
    }
  }

 private:
  template <typename ArrayType>
  static const ArrayType& Cast(const arrow::Array& array) {
    return static_cast<const ArrayType&>(array);
  }

  template <typename ArrayType>
  Status Whole(const arrow::Array& array, int64_t index) {
    AppendNumber(Cast<ArrayType>(array).Value(index), &out_);
    return OkStatus();
  }

  template <typename ArrayType>
  Status Decimal(const arrow::Array& array, int64_t index) {
    out_ += '"' + Cast<ArrayType>(array).FormatValue(index) + '"';
    return OkStatus();
  }

  Status Text(std::string_view text, const std::string& column) {
    const size_t invalid = FindInvalidUtf8(text);
    if (invalid != text.size()) {
      return InColumn(column, "not UTF-8 at byte " + std::to_string(invalid + 1) + " of the text");
    }
    AppendJsonString(text, &out_);
    return OkStatus();
  }

  Status Temporal(const arrow::Array& array, int64_t index, const std::string& column) {
    bool in_range = true;
    switch (array.type_id()) {
      case Type::DATE32:
      case Type::DATE64:
        out_ += '"';
        in_range = AppendDate(
            array.type_id() == Type::DATE32
                ? Cast<arrow::Date32Array>(array).Value(index)
                : FloorDivide(Cast<arrow::Date64Array>(array).Value(index), kSecondsPerDay * 1000),
            &out_);
        out_ += '"';
        break;
      case Type::TIMESTAMP:
        in_range = AppendTimestamp(Cast<arrow::TimestampArray>(array).Value(index),
                                   static_cast<const arrow::TimestampType&>(*array.type()), &out_);
        break;
      case Type::TIME32:
        in_range = AppendTime(Cast<arrow::Time32Array>(array).Value(index),
                              static_cast<const arrow::Time32Type&>(*array.type()).unit(), &out_);
        break;
      case Type::TIME64:
        in_range = AppendTime(Cast<arrow::Time64Array>(array).Value(index),
                              static_cast<const arrow::Time64Type&>(*array.type()).unit(), &out_);
        break;
      case Type::DURATION: {
        const int64_t units =
            UnitsPerSecond(static_cast<const arrow::DurationType&>(*array.type()).unit());
        AppendReal(static_cast<double>(Cast<arrow::DurationArray>(array).Value(index)) /
                       static_cast<double>(units),
                   &out_);
        break;
      }
      default:
        return InColumn(column, array.type()->ToString() + " values have no JSON form");
    }
    if (!in_range) return InColumn(column, "a date or time is outside of year 1 to 9999");
    return OkStatus();
  }

  template <typename ArrayType>
  Status List(const arrow::Array& array, int64_t index, const std::string& column) {
    const auto& list = Cast<ArrayType>(array);
    const int64_t begin = list.value_offset(index);
    const int64_t length = list.value_length(index);
    const arrow::Array& values = *list.values();
    if (begin < 0 || length < 0 || begin + length > values.length()) {
      return InColumn(column, "a list is out of range");
    }
    const std::string item = column + "[]";
    out_ += '[';
    for (int64_t i = 0; i < length; ++i) {
      if (i > 0) out_ += ',';
      ROLLCALL_RETURN_IF_ERROR(Write(values, begin + i, item));
    }
    out_ += ']';
    return OkStatus();
  }

  Status Map(const arrow::MapArray& map, int64_t index, const std::string& column) {
    const int64_t begin = map.value_offset(index);
    const int64_t length = map.value_length(index);
    if (begin < 0 || length < 0 || begin + length > map.items()->length() ||
        begin + length > map.keys()->length()) {
      return InColumn(column, "a map is out of range");
    }
    out_ += '{';
    for (int64_t i = 0; i < length; ++i) {
      if (i > 0) out_ += ',';
      ROLLCALL_RETURN_IF_ERROR(Write(*map.keys(), begin + i, column + ".key"));
      out_ += ':';
      ROLLCALL_RETURN_IF_ERROR(Write(*map.items(), begin + i, column + ".value"));
    }
    out_ += '}';
    return OkStatus();
  }

  Status Struct(const arrow::StructArray& array, int64_t index, const std::string& column) {
    out_ += '{';
    for (int i = 0; i < array.num_fields(); ++i) {
      const std::string& name = array.struct_type()->field(i)->name();
      if (i > 0) out_ += ',';
      AppendJsonString(name, &out_);
      out_ += ':';
      std::string field = column;
      field += '.';
      field += name;
      ROLLCALL_RETURN_IF_ERROR(Write(*array.field(i), index, field));
    }
    out_ += '}';
    return OkStatus();
  }

  const JsonValueLimits& limits_;
  std::string& out_;
};

bool IsText(const arrow::DataType& type) {
  if (type.id() == Type::DICTIONARY) {
    return IsText(*static_cast<const arrow::DictionaryType&>(type).value_type());
  }
  return type.id() == Type::STRING || type.id() == Type::LARGE_STRING ||
         type.id() == Type::STRING_VIEW;
}

Status CheckType(const arrow::DataType& type, const std::string& column, int depth,
                 const JsonValueLimits& limits);

Status CheckStruct(const arrow::DataType& type, const std::string& column, int depth,
                   const JsonValueLimits& limits) {
  for (int i = 0; i < type.num_fields(); ++i) {
    const std::string& name = type.field(i)->name();
    if (FindInvalidUtf8(name) != name.size()) return InColumn(column, "a name is not UTF-8");
    for (int k = 0; k < i; ++k) {
      if (type.field(k)->name() == name) {
        return InColumn(column, "two fields are called '" + name + "'");
      }
    }
    std::string field = column;
    field += '.';
    field += name;
    ROLLCALL_RETURN_IF_ERROR(CheckType(*type.field(i)->type(), field, depth + 1, limits));
  }
  return OkStatus();
}

Status CheckType(const arrow::DataType& type, const std::string& column, int depth,
                 const JsonValueLimits& limits) {
  if (depth > limits.max_depth) {
    return InColumn(column, "nested deeper than " + std::to_string(limits.max_depth));
  }
  switch (type.id()) {
    case Type::LIST:
    case Type::LARGE_LIST:
    case Type::FIXED_SIZE_LIST:
    case Type::LIST_VIEW:
    case Type::LARGE_LIST_VIEW:
      return CheckType(*type.field(0)->type(), column + "[]", depth + 1, limits);
    case Type::STRUCT:
      return CheckStruct(type, column, depth, limits);
    case Type::MAP: {
      const auto& map = static_cast<const arrow::MapType&>(type);
      if (!IsText(*map.key_type())) {
        return InColumn(column, "a map with " + map.key_type()->ToString() +
                                    " keys has no JSON form; use text keys or a list of structs");
      }
      return CheckType(*map.item_type(), column + ".value", depth + 1, limits);
    }
    case Type::DICTIONARY:
      return CheckType(*static_cast<const arrow::DictionaryType&>(type).value_type(), column,
                       depth + 1, limits);
    case Type::EXTENSION:
      return CheckType(*static_cast<const arrow::ExtensionType&>(type).storage_type(), column,
                       depth + 1, limits);
    case Type::BINARY:
    case Type::LARGE_BINARY:
    case Type::BINARY_VIEW:
    case Type::FIXED_SIZE_BINARY:
      return InColumn(column, type.ToString() +
                                  " values have no JSON form; store text, or leave the column out");
    case Type::NA:
    case Type::BOOL:
    case Type::INT8:
    case Type::INT16:
    case Type::INT32:
    case Type::INT64:
    case Type::UINT8:
    case Type::UINT16:
    case Type::UINT32:
    case Type::UINT64:
    case Type::HALF_FLOAT:
    case Type::FLOAT:
    case Type::DOUBLE:
    case Type::STRING:
    case Type::LARGE_STRING:
    case Type::STRING_VIEW:
    case Type::DECIMAL32:
    case Type::DECIMAL64:
    case Type::DECIMAL128:
    case Type::DECIMAL256:
    case Type::DATE32:
    case Type::DATE64:
    case Type::TIMESTAMP:
    case Type::TIME32:
    case Type::TIME64:
    case Type::DURATION:
      return OkStatus();
    default:
      return InColumn(column, type.ToString() + " values have no JSON form; leave the column out");
  }
}

}  // namespace

Status CheckColumnType(const arrow::DataType& type, const std::string& column,
                       const JsonValueLimits& limits) {
  return CheckType(type, column, 1, limits);
}

Status AppendJsonValue(const arrow::Array& array, int64_t index, const std::string& column,
                       const JsonValueLimits& limits, std::string* out) {
  return ValueWriter(limits, out).Write(array, index, column);
}

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (c == '\n') {
      *out += "\\n";
    } else if (c == '\t') {
      *out += "\\t";
    } else if (c == '\r') {
      *out += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned char>(c));
      *out += escape.data();
    } else {
      *out += c;
    }
  }
  *out += '"';
}

}  // namespace rollcall
