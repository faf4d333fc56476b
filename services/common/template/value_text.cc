#include "services/common/template/value_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

// Of values in progress, into one string, so that a limit is met while it grows.
class ReprWriter {
 public:
  ReprWriter(Heap& heap, std::string* out) : heap_(heap), out_(out) {}

  Status Write(const Value& value);

 private:
  Status WriteItems(const std::vector<Value>& items);
  Status WriteDict(const DictObject& dict);
  Status WriteView(const DictViewObject& view);

  Heap& heap_;
  std::string* out_;
};

Status ReprWriter::WriteItems(const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out_ += ", ";
    ROLLCALL_RETURN_IF_ERROR(Write(items[i]));
  }
  return OkStatus();
}

Status ReprWriter::WriteDict(const DictObject& dict) {
  out_->push_back('{');
  for (size_t i = 0; i < dict.entries.size(); ++i) {
    if (i > 0) *out_ += ", ";
    ROLLCALL_RETURN_IF_ERROR(Write(dict.entries[i].first));
    *out_ += ": ";
    ROLLCALL_RETURN_IF_ERROR(Write(dict.entries[i].second));
  }
  out_->push_back('}');
  return OkStatus();
}

Status ReprWriter::WriteView(const DictViewObject& view) {
  *out_ += view.what == DictViewObject::What::kKeys     ? "dict_keys(["
           : view.what == DictViewObject::What::kValues ? "dict_values(["
                                                        : "dict_items([";
  const auto& entries = view.dict.dict().entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) *out_ += ", ";
    const bool both = view.what == DictViewObject::What::kItems;
    if (both) out_->push_back('(');
    if (view.what != DictViewObject::What::kValues) {
      ROLLCALL_RETURN_IF_ERROR(Write(entries[i].first));
    }
    if (both) *out_ += ", ";
    if (view.what != DictViewObject::What::kKeys) {
      ROLLCALL_RETURN_IF_ERROR(Write(entries[i].second));
    }
    if (both) out_->push_back(')');
  }
  *out_ += "])";
  return OkStatus();
}

Status ReprWriter::Write(const Value& value) {
  ROLLCALL_RETURN_IF_ERROR(heap_.Step());
  ROLLCALL_RETURN_IF_ERROR(heap_.CheckStringBytes(out_->size()));
  switch (value.kind()) {
    case Kind::kUndefined:
      *out_ += "Undefined";
      break;
    case Kind::kNone:
      *out_ += "None";
      break;
    case Kind::kBool:
      *out_ += value.as_bool() ? "True" : "False";
      break;
    case Kind::kInt:
      *out_ += std::to_string(value.as_int());
      break;
    case Kind::kFloat:
      *out_ += ReprFloat(value.as_float());
      break;
    case Kind::kString:
      ROLLCALL_RETURN_IF_ERROR(heap_.StepBytes(value.text().size()));
      if (value.string().is_markup) {
        *out_ += "Markup(" + ReprText(value.text()) + ")";
      } else {
        *out_ += ReprText(value.text());
      }
      break;
    case Kind::kList:
      out_->push_back('[');
      ROLLCALL_RETURN_IF_ERROR(WriteItems(value.items()));
      out_->push_back(']');
      break;
    case Kind::kTuple:
      out_->push_back('(');
      ROLLCALL_RETURN_IF_ERROR(WriteItems(value.items()));
      *out_ += value.items().size() == 1 ? ",)" : ")";
      break;
    case Kind::kDict:
      return WriteDict(value.dict());
    case Kind::kDictView:
      return WriteView(value.dict_view());
    case Kind::kRange: {
      const RangeObject& range = value.range();
      *out_ += "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop);
      if (range.step != 1) *out_ += ", " + std::to_string(range.step);
      out_->push_back(')');
      break;
    }
    case Kind::kIterator:
      *out_ += "<generator object>";
      break;
    case Kind::kNative:
      *out_ += value.native().Describe();
      break;
  }
  return OkStatus();
}

void AppendHexEscape(char32_t c, std::string* out) {
  std::array<char, 16> buffer{};
  const char* format = c <= 0xFF ? "\\x%02x" : (c <= 0xFFFF ? "\\u%04x" : "\\U%08x");
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(c));
  *out += buffer.data();
}

// The text without blanks around it and without the single underscores between digits that Python
// allows; nothing when one stands elsewhere.
std::optional<std::string> StripUnderscores(std::string_view text) {
  text = Strip(text, Side::kBoth);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
      continue;
    }
    const auto is_digit = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

}  // namespace

std::string ReprText(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  out.reserve(text.size() + 2);
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextChar(text, &i);
    if (c == U'\\' || c == static_cast<char32_t>(quote)) {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == U'\n') {
      out += "\\n";
    } else if (c == U'\r') {
      out += "\\r";
    } else if (c == U'\t') {
      out += "\\t";
    } else if (c != U' ' && !HasFlag(c, kPrintable)) {
      AppendHexEscape(c, &out);
    } else {
      AppendUtf8(c, &out);
    }
  }
  out.push_back(quote);
  return out;
}

std::string ReprFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific);
  std::string_view text(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  std::string sign;
  if (text.front() == '-') {
    sign = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const std::string_view exponent_text = text.substr(e + 1);
  int exponent = 0;
  std::from_chars(exponent_text.data() + (exponent_text[0] == '+' ? 1 : 0),
                  exponent_text.data() + exponent_text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    const int magnitude = std::abs(exponent);
    return out + (exponent < 0 ? "e-" : "e+") + (magnitude < 10 ? "0" : "") +
           std::to_string(magnitude);
  }
  if (exponent < 0)
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

StatusOr<std::string> Str(Heap& heap, const Value& value) {
  if (value.is_string()) return std::string(value.text());
  if (value.is_undefined()) return std::string();
  return Repr(heap, value);
}

StatusOr<std::string> Repr(Heap& heap, const Value& value) {
  std::string out;
  ROLLCALL_RETURN_IF_ERROR(ReprWriter(heap, &out).Write(value));
  ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(out.size()));
  return out;
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> stripped = StripUnderscores(text);
  if (!stripped || stripped->empty()) return std::nullopt;
  std::string_view rest = *stripped;
  bool negative = false;
  if (rest.front() == '+' || rest.front() == '-') {
    negative = rest.front() == '-';
    rest.remove_prefix(1);
  }
  const std::string lower = ToLower(rest);
  double value = 0;
  if (lower == "inf" || lower == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (lower == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (rest.empty() || (rest.front() != '.' && (rest.front() < '0' || rest.front() > '9'))) {
      return std::nullopt;
    }
    const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (result.ptr != rest.data() + rest.size()) return std::nullopt;
    if (result.ec == std::errc::invalid_argument) return std::nullopt;
    if (result.ec == std::errc::result_out_of_range) value = std::strtod(lower.c_str(), nullptr);
  }
  return negative ? -value : value;
}

StatusOr<std::optional<int64_t>> ParseInt(std::string_view text, int base) {
  using Result = std::optional<int64_t>;
  if (base != 0 && (base < 2 || base > 36)) {
    return InvalidArgument("int() base must be 0 or between 2 and 36, not " + std::to_string(base));
  }
  const std::string_view blank_free = Strip(text, Side::kBoth);
  // "0x_1f" is allowed where "_1f" is not.
  const std::optional<std::string> stripped = StripUnderscores(blank_free);
  if (!stripped || stripped->empty()) return Result();
  std::string_view rest = *stripped;
  const bool negative = rest.front() == '-';
  if (rest.front() == '+' || rest.front() == '-') rest.remove_prefix(1);
  if (rest.size() > 2 && rest[0] == '0') {
    const char c = rest[1];
    const int prefix = c == 'x' || c == 'X'   ? 16
                       : c == 'o' || c == 'O' ? 8
                       : c == 'b' || c == 'B' ? 2
                                              : 0;
    if (prefix != 0 && (base == 0 || base == prefix)) {
      base = prefix;
      rest.remove_prefix(2);
    }
  }
  if (base == 0) {
    if (rest.size() > 1 && rest[0] == '0' &&
        rest.find_first_not_of('0') != std::string_view::npos) {
      return Result();
    }
    base = 10;
  }
  if (rest.empty()) return Result();
  int64_t value = 0;
  for (const char c : rest) {
    const int digit = DigitValue(c);
    if (digit >= base) return Result();
    if (__builtin_mul_overflow(value, static_cast<int64_t>(base), &value) ||
        __builtin_sub_overflow(value, static_cast<int64_t>(digit), &value)) {
      return InvalidArgument("the integer '" + std::string(TruncateUtf8(blank_free, 40)) +
                             "' does not fit 64 bits, which is what is supported");
    }
  }
  if (negative) return Result(value);
  if (value == std::numeric_limits<int64_t>::min()) {
    return InvalidArgument("the integer does not fit 64 bits, which is what is supported");
  }
  return Result(-value);
}

}  // namespace rollcall::jinja
