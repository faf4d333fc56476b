#include "services/common/template/percent_format.h"

#include <cmath>
#include <string>
#include <utility>

#include "services/common/template/escape.h"
#include "services/common/template/number_format.h"
#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

struct Conversion {
  bool left = false, zero = false, plus = false, blank = false, alternate = false;
  int width = 0;
  int precision = -1;
  char type = 's';
};

class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const Value& format, const Value& values)
      : heap_(heap), is_markup_(format.string().is_markup), text_(format.text()), values_(values) {}

  StatusOr<std::string> Run();

 private:
  StatusOr<Value> NextValue();
  StatusOr<int> ReadNumber();
  Status ReadConversion(Conversion* conversion, Value* named, bool* has_name);
  StatusOr<std::string> Convert(const Conversion& conversion, const Value& value);
  StatusOr<std::string> ConvertInteger(const Conversion& conversion, const Value& value,
                                       std::string* sign);
  StatusOr<std::string> ConvertText(const Conversion& conversion, const Value& value);

  Heap& heap_;
  const bool is_markup_;
  const std::string_view text_;
  const Value& values_;
  size_t at_ = 0;
  size_t used_ = 0;
};

StatusOr<Value> PercentFormatter::NextValue() {
  const bool is_tuple = values_.is(Kind::kTuple);
  const size_t have = is_tuple ? values_.items().size() : 1;
  if (used_ >= have) return InvalidArgument("not enough arguments for the format string");
  ++used_;
  return is_tuple ? values_.items()[used_ - 1] : values_;
}

StatusOr<int> PercentFormatter::ReadNumber() {
  if (at_ < text_.size() && text_[at_] == '*') {
    ++at_;
    ROLLCALL_ASSIGN_OR_RETURN(const Value value, NextValue());
    if (!value.is_integral()) return InvalidArgument("* in a format wants an int");
    if (value.as_int() > 1'000'000 || value.as_int() < -1'000'000) {
      return InvalidArgument("a width or precision over 1000000 is not supported");
    }
    return static_cast<int>(value.as_int());
  }
  int number = 0;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
    number = number * 10 + (text_[at_++] - '0');
    if (number > 1'000'000) {
      return InvalidArgument("a width or precision over 1000000 is not supported");
    }
  }
  return number;
}

Status PercentFormatter::ReadConversion(Conversion* conversion, Value* named, bool* has_name) {
  if (at_ < text_.size() && text_[at_] == '(') {
    if (!values_.is(Kind::kDict)) return InvalidArgument("the format requires a mapping");
    int open = 1;
    const size_t begin = ++at_;
    for (; at_ < text_.size() && open > 0; ++at_) {
      if (text_[at_] == '(') ++open;
      if (text_[at_] == ')') --open;
    }
    if (open > 0) return InvalidArgument("incomplete format key");
    const std::string_view key = text_.substr(begin, at_ - begin - 1);
    const Value* value = values_.dict().FindText(key);
    if (value == nullptr) {
      return InvalidArgument("the format names the key '" + std::string(key) +
                             "', which is missing");
    }
    *named = *value;
    *has_name = true;
  }
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '-') {
      conversion->left = true;
    } else if (c == '0') {
      conversion->zero = true;
    } else if (c == '+') {
      conversion->plus = true;
    } else if (c == ' ') {
      conversion->blank = true;
    } else if (c == '#') {
      conversion->alternate = true;
    } else {
      break;
    }
  }
  ROLLCALL_ASSIGN_OR_RETURN(conversion->width, ReadNumber());
  if (conversion->width < 0) {
    conversion->left = true;
    conversion->width = -conversion->width;
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    ROLLCALL_ASSIGN_OR_RETURN(conversion->precision, ReadNumber());
    if (conversion->precision < 0) conversion->precision = 0;
  }
  while (at_ < text_.size() && (text_[at_] == 'h' || text_[at_] == 'l' || text_[at_] == 'L')) ++at_;
  if (at_ >= text_.size()) return InvalidArgument("incomplete format");
  conversion->type = text_[at_++];
  return OkStatus();
}

StatusOr<std::string> PercentFormatter::ConvertInteger(const Conversion& conversion,
                                                       const Value& value, std::string* sign) {
  const char type = conversion.type;
  int64_t number = 0;
  if (value.is_integral()) {
    number = value.as_int();
  } else if (value.is(Kind::kFloat) && (type == 'd' || type == 'i' || type == 'u')) {
    const double truncated = std::trunc(value.as_float());
    if (!(std::fabs(truncated) < 9.2e18)) {
      return InvalidArgument("the float does not fit an integer of 64 bits");
    }
    number = static_cast<int64_t>(truncated);
  } else {
    return InvalidArgument(std::string("%") + type + " format: a number is required, not " +
                           TypeName(value));
  }
  const int base = type == 'x' || type == 'X' ? 16 : (type == 'o' ? 8 : 10);
  std::string digits = FormatDigits(number, base, type == 'X');
  if (conversion.precision > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<size_t>(conversion.precision) - digits.size(), '0');
  }
  *sign = number < 0 ? "-" : (conversion.plus ? "+" : (conversion.blank ? " " : ""));
  if (conversion.alternate && base != 10) *sign += base == 8 ? "0o" : (type == 'X' ? "0X" : "0x");
  return digits;
}

StatusOr<std::string> PercentFormatter::ConvertText(const Conversion& conversion,
                                                    const Value& value) {
  std::string text;
  if (conversion.type == 'c') {
    if (value.is_string() && value.string().num_chars == 1) {
      text = value.text();
    } else if (value.is_integral() && value.as_int() >= 0 && value.as_int() < 0x110000 &&
               (value.as_int() < 0xD800 || value.as_int() > 0xDFFF)) {
      AppendUtf8(static_cast<char32_t>(value.as_int()), &text);
    } else {
      return InvalidArgument("%c requires an int or a single character");
    }
    return text;
  }
  if (conversion.type == 's') {
    ROLLCALL_ASSIGN_OR_RETURN(text, Str(heap_, value));
    if (is_markup_ && !(value.is_string() && value.string().is_markup)) text = EscapeHtml(text);
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(text, Repr(heap_, value));
    if (conversion.type == 'a') {
      std::string ascii;
      for (size_t i = 0; i < text.size();) {
        const size_t begin = i;
        const char32_t c = NextChar(text, &i);
        if (c < 0x80) {
          ascii.push_back(text[begin]);
        } else {
          ascii += c <= 0xFF ? "\\x" : (c <= 0xFFFF ? "\\u" : "\\U");
          std::string hex = FormatDigits(static_cast<int64_t>(c), 16, false);
          const size_t want = c <= 0xFF ? 2 : (c <= 0xFFFF ? 4 : 8);
          ascii += std::string(want - hex.size(), '0') + hex;
        }
      }
      text = std::move(ascii);
    }
    if (is_markup_) text = EscapeHtml(text);
  }
  if (conversion.precision >= 0) text.resize(ByteOffset(text, conversion.precision));
  return text;
}

StatusOr<std::string> PercentFormatter::Convert(const Conversion& conversion, const Value& value) {
  std::string sign;
  std::string body;
  bool is_number = true;
  switch (conversion.type) {
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      ROLLCALL_ASSIGN_OR_RETURN(body, ConvertInteger(conversion, value, &sign));
      break;
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      if (!value.is_number()) {
        return InvalidArgument("must be a real number, not " + TypeName(value));
      }
      if (conversion.precision > kMaxPrecision) {
        return InvalidArgument("a precision over 1000 is not supported");
      }
      const double number = value.as_float();
      sign = std::signbit(number) && !std::isnan(number)
                 ? "-"
                 : (conversion.plus ? "+" : (conversion.blank ? " " : ""));
      body = FormatFloat(number, conversion.type,
                         conversion.precision < 0 ? 6 : conversion.precision, conversion.alternate);
      break;
    }
    case 's':
    case 'r':
    case 'a':
    case 'c': {
      is_number = false;
      ROLLCALL_ASSIGN_OR_RETURN(body, ConvertText(conversion, value));
      break;
    }
    default:
      return InvalidArgument(std::string("unsupported format character '") + conversion.type + "'");
  }
  const int64_t length = CountChars(sign) + CountChars(body);
  const auto fill = static_cast<size_t>(std::max<int64_t>(0, conversion.width - length));
  if (conversion.left) return sign + body + std::string(fill, ' ');
  if (conversion.zero && is_number) return sign + std::string(fill, '0') + body;
  return std::string(fill, ' ') + sign + body;
}

StatusOr<std::string> PercentFormatter::Run() {
  std::string out;
  bool used_names = false;
  while (at_ < text_.size()) {
    const size_t percent = text_.find('%', at_);
    out += text_.substr(at_, percent == std::string_view::npos ? percent : percent - at_);
    if (percent == std::string_view::npos) break;
    at_ = percent + 1;
    if (at_ < text_.size() && text_[at_] == '%') {
      out.push_back('%');
      ++at_;
      continue;
    }
    Conversion conversion;
    Value value;
    bool has_name = false;
    ROLLCALL_RETURN_IF_ERROR(ReadConversion(&conversion, &value, &has_name));
    if (conversion.type == '%') {
      out.push_back('%');
      continue;
    }
    if (has_name) {
      used_names = true;
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(value, NextValue());
    }
    ROLLCALL_ASSIGN_OR_RETURN(const std::string converted, Convert(conversion, value));
    ROLLCALL_RETURN_IF_ERROR(heap_.CheckStringBytes(out.size() + converted.size()));
    ROLLCALL_RETURN_IF_ERROR(heap_.Step());
    out += converted;
  }
  // What has items may stay unused, as in Python.
  const bool may_stay_unused =
      used_names || values_.is(Kind::kDict) || values_.is(Kind::kList) || values_.is(Kind::kRange);
  const size_t have = values_.is(Kind::kTuple) ? values_.items().size() : 1;
  if (!may_stay_unused && used_ < have && !values_.is_undefined()) {
    return InvalidArgument("not all arguments were used by the format string");
  }
  return out;
}

}  // namespace

StatusOr<Value> PercentFormat(Heap& heap, const Value& format, const Value& values) {
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, PercentFormatter(heap, format, values).Run());
  return heap.StringLike(format, std::move(text));
}

}  // namespace rollcall::jinja
