// str.format() with Python's format specification:
//   [[fill]align][sign][#][0][width][, or _][.precision][type]
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/methods.h"
#include "services/common/template/number_format.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

constexpr int64_t kMaxWidth = 1'000'000;

struct Spec {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

bool IsAlign(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

StatusOr<int64_t> ReadDigits(std::string_view text, size_t* at) {
  int64_t number = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    number = number * 10 + (text[(*at)++] - '0');
    if (number > kMaxWidth) return InvalidArgument("a width over 1000000 is not supported");
  }
  return number;
}

StatusOr<Spec> ParseSpec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  if (!text.empty()) {
    size_t second = 0;
    NextChar(text, &second);
    if (second < text.size() && IsAlign(text[second])) {
      spec.fill = text.substr(0, second);
      spec.align = text[second];
      at = second + 1;
    } else if (IsAlign(text[0])) {
      spec.align = text[at++];
    }
  }
  const auto take = [&](std::string_view any, char* out) {
    if (at >= text.size() || any.find(text[at]) == std::string_view::npos) return false;
    *out = text[at++];
    return true;
  };
  char flag = '\0';
  take("+- ", &spec.sign);
  spec.alternate = take("#", &flag);
  if (take("0", &flag) && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  ROLLCALL_ASSIGN_OR_RETURN(spec.width, ReadDigits(text, &at));
  take(",_", &spec.grouping);
  if (take(".", &flag)) {
    const size_t begin = at;
    ROLLCALL_ASSIGN_OR_RETURN(spec.precision, ReadDigits(text, &at));
    if (at == begin) return InvalidArgument("a format lacks its precision behind the point");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) {
    return InvalidArgument("invalid format specification '" + std::string(TruncateUtf8(text, 40)) +
                           "'");
  }
  return spec;
}

std::string Pad(const Spec& spec, const std::string& sign, const std::string& body, char fallback) {
  const int64_t length = CountChars(sign) + CountChars(body);
  const int64_t fill = std::max<int64_t>(0, spec.width - length);
  const char align = spec.align == '\0' ? fallback : spec.align;
  const auto repeat = [&](int64_t count) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += spec.fill;
    return out;
  };
  if (align == '<') return sign + body + repeat(fill);
  if (align == '=') return sign + repeat(fill) + body;
  if (align == '^') return repeat(fill / 2) + sign + body + repeat(fill - fill / 2);
  return repeat(fill) + sign + body;
}

// Separators between the digits before the point. Zeros that fill up to a width are grouped as
// well.
std::string Group(std::string digits, const Spec& spec, size_t group, size_t min_length) {
  const size_t end = digits.find_first_not_of("0123456789abcdefABCDEF");
  std::string whole = digits.substr(0, end);
  const std::string rest = end == std::string::npos ? "" : digits.substr(end);
  const auto grouped = [&] {
    std::string out;
    for (size_t i = 0; i < whole.size(); ++i) {
      if (i > 0 && (whole.size() - i) % group == 0) out.push_back(spec.grouping);
      out.push_back(whole[i]);
    }
    return out;
  };
  while (grouped().size() + rest.size() < min_length) whole.insert(whole.begin(), '0');
  return grouped() + rest;
}

StatusOr<std::string> FormatInteger(const Spec& spec, int64_t value) {
  int base = 10;
  std::string prefix;
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'n':
      break;
    case 'x':
    case 'X':
      base = 16;
      prefix = spec.type == 'x' ? "0x" : "0X";
      break;
    case 'o':
      base = 8;
      prefix = "0o";
      break;
    case 'b':
      base = 2;
      prefix = "0b";
      break;
    default:
      return InvalidArgument(std::string("unknown format code '") + spec.type + "' for an integer");
  }
  if (spec.precision >= 0) return InvalidArgument("an integer takes no precision in its format");
  std::string sign = value < 0 ? "-" : (spec.sign == '-' ? "" : std::string(1, spec.sign));
  if (spec.alternate) sign += prefix;
  std::string digits = FormatDigits(value, base, spec.type == 'X');
  if (spec.grouping != '\0') {
    if (spec.width > 1000) return InvalidArgument("a width over 1000 with groups is not supported");
    const bool zero_filled = spec.fill == "0" && spec.align == '=';
    const int64_t room = zero_filled ? spec.width - static_cast<int64_t>(sign.size()) : 0;
    digits = Group(std::move(digits), spec, base == 10 ? 3 : 4,
                   static_cast<size_t>(std::max<int64_t>(0, room)));
  }
  return Pad(spec, sign, digits, '>');
}

StatusOr<std::string> FormatNumber(const Spec& spec, double value) {
  if (spec.precision > kMaxPrecision) {
    return InvalidArgument("a precision over 1000 is not supported");
  }
  std::string body;
  const auto precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  switch (spec.type) {
    case '\0':
      if (spec.precision < 0) {
        body = ReprFloat(std::fabs(value));
      } else {
        // As 'g', but a whole number keeps one digit behind the point.
        const int digits = std::max(precision, 1);
        body = FormatFloat(value, 'g', digits, spec.alternate);
        if (std::isfinite(value) && body.find_first_of(".e") == std::string::npos) {
          // Python leaves the exponent form one digit earlier here.
          if (static_cast<int>(body.size()) >= digits) {
            body = FormatFloat(value, 'e', digits - 1, spec.alternate);
            const size_t e = body.find('e');
            std::string mantissa = body.substr(0, e);
            if (mantissa.find('.') != std::string::npos) {
              mantissa.erase(mantissa.find_last_not_of('0') + 1);
              if (mantissa.back() == '.') mantissa.pop_back();
            }
            body = mantissa + body.substr(e);
          } else {
            body += ".0";
          }
        }
      }
      break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      body = FormatFloat(value, spec.type, precision, spec.alternate);
      break;
    case 'n':
      body = FormatFloat(value, 'g', precision, spec.alternate);
      break;
    case '%':
      body = FormatFloat(value * 100, 'f', precision, spec.alternate) + "%";
      break;
    default:
      return InvalidArgument(std::string("unknown format code '") + spec.type + "' for a float");
  }
  const bool negative = std::signbit(value) && !std::isnan(value);
  const std::string sign = negative ? "-" : (spec.sign == '-' ? "" : std::string(1, spec.sign));
  if (spec.grouping != '\0' && std::isfinite(value)) {
    if (spec.width > 1000) return InvalidArgument("a width over 1000 with groups is not supported");
    const bool zero_filled = spec.fill == "0" && spec.align == '=';
    const int64_t room = zero_filled ? spec.width - static_cast<int64_t>(sign.size()) : 0;
    body = Group(std::move(body), spec, 3, static_cast<size_t>(std::max<int64_t>(0, room)));
  }
  return Pad(spec, sign, body, '>');
}

StatusOr<std::string> FormatText(const Spec& spec, std::string_view text) {
  if (spec.type != '\0' && spec.type != 's') {
    return InvalidArgument(std::string("unknown format code '") + spec.type + "' for a text");
  }
  if (spec.sign != '-' || spec.alternate || spec.grouping != '\0' || spec.align == '=') {
    return InvalidArgument("a text takes no sign, '=' or groups in its format");
  }
  if (spec.precision >= 0) text = text.substr(0, ByteOffset(text, spec.precision));
  return Pad(spec, "", std::string(text), '<');
}

// format(value, spec).
StatusOr<std::string> FormatValue(Heap& heap, const Value& value, std::string_view text) {
  if (text.empty()) return Str(heap, value);
  if (!value.is_string() && !value.is_number()) {
    return InvalidArgument("a " + TypeName(value) + " takes no format specification");
  }
  ROLLCALL_ASSIGN_OR_RETURN(Spec spec, ParseSpec(text));
  if (value.is_string()) {
    // "0" as a flag fills a text on its right.
    if (spec.align == '=' && spec.fill == "0" && text[0] == '0') spec.align = '<';
    return FormatText(spec, value.text());
  }
  const bool as_float = value.is(Kind::kFloat) ||
                        std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (spec.type != '\0' && as_float) return FormatNumber(spec, value.as_float());
  if (value.is(Kind::kFloat)) return FormatNumber(spec, value.as_float());
  if (spec.type == 'c') return InvalidArgument("the format code 'c' is not supported");
  return FormatInteger(spec, value.as_int());
}

class Formatter {
 public:
  Formatter(Interpreter& interpreter, const CallArgs& args)
      : interpreter_(interpreter), args_(args) {}

  StatusOr<std::string> Format(std::string_view text, int depth);

 private:
  StatusOr<std::string> Field(std::string_view field, int depth);
  StatusOr<Value> Lookup(std::string_view path);
  StatusOr<Value> First(std::string_view name);

  Interpreter& interpreter_;
  const CallArgs& args_;
  int64_t next_index_ = 0;
  bool uses_numbers_ = false, counts_itself_ = false;
};

bool IsNumber(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

StatusOr<Value> Formatter::First(std::string_view name) {
  int64_t index = -1;
  if (name.empty()) {
    counts_itself_ = true;
    index = next_index_++;
  } else if (IsNumber(name)) {
    uses_numbers_ = true;
    index = std::stoll(std::string(name));
  }
  if (uses_numbers_ && counts_itself_) {
    return InvalidArgument("format(): fields with and without numbers cannot be mixed");
  }
  if (index >= 0) {
    if (index >= static_cast<int64_t>(args_.positional.size())) {
      return InvalidArgument("format(): there is no argument " + std::to_string(index));
    }
    return args_.positional[static_cast<size_t>(index)];
  }
  for (const auto& [have, value] : args_.named) {
    if (have == name) return value;
  }
  return InvalidArgument("format(): there is no argument '" + std::string(TruncateUtf8(name, 80)) +
                         "'");
}

// "0.name[item]": an argument, then attributes and items of it.
StatusOr<Value> Formatter::Lookup(std::string_view path) {
  size_t at = path.find_first_of(".[");
  ROLLCALL_ASSIGN_OR_RETURN(Value value, First(path.substr(0, at)));
  while (at < path.size()) {
    if (path[at] == '.') {
      const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
      if (end == at + 1) return InvalidArgument("format(): an attribute has no name");
      ROLLCALL_ASSIGN_OR_RETURN(
          value, interpreter_.GetAttribute(value, path.substr(at + 1, end - at - 1)));
      at = end;
    } else if (path[at] == '[') {
      const size_t end = path.find(']', at);
      if (end == std::string_view::npos || end == at + 1) {
        return InvalidArgument("format(): a '[' is not closed or has no key");
      }
      const std::string_view key = path.substr(at + 1, end - at - 1);
      Value item;
      if (IsNumber(key)) {
        item = Value::Int(std::stoll(std::string(key)));
      } else {
        ROLLCALL_ASSIGN_OR_RETURN(item, interpreter_.heap().String(std::string(key)));
      }
      ROLLCALL_ASSIGN_OR_RETURN(value, interpreter_.GetItem(value, item));
      at = end + 1;
    } else {
      return InvalidArgument("format(): only '.' or '[' may follow ']'");
    }
  }
  return value;
}

StatusOr<std::string> Formatter::Field(std::string_view field, int depth) {
  // name [! conversion] [: specification]; brackets may hold either character.
  size_t end = 0;
  bool in_brackets = false;
  while (end < field.size() && (in_brackets || (field[end] != '!' && field[end] != ':'))) {
    if (field[end] == '[') in_brackets = true;
    if (field[end] == ']') in_brackets = false;
    ++end;
  }
  ROLLCALL_ASSIGN_OR_RETURN(Value value, Lookup(field.substr(0, end)));
  if (end < field.size() && field[end] == '!') {
    const char conversion = end + 1 < field.size() ? field[end + 1] : '\0';
    if (conversion != 's' && conversion != 'r') {
      return InvalidArgument("format(): only the conversions !s and !r are supported");
    }
    StatusOr<std::string> text =
        conversion == 's' ? Str(interpreter_.heap(), value) : Repr(interpreter_.heap(), value);
    ROLLCALL_RETURN_IF_ERROR(text.status());
    ROLLCALL_ASSIGN_OR_RETURN(value, interpreter_.heap().String(*std::move(text)));
    end += 2;
    if (end < field.size() && field[end] != ':') {
      return InvalidArgument("format(): expected ':' after the conversion");
    }
  }
  std::string spec;
  if (end < field.size()) {
    ROLLCALL_ASSIGN_OR_RETURN(spec, Format(field.substr(end + 1), depth + 1));
  }
  return FormatValue(interpreter_.heap(), value, spec);
}

StatusOr<std::string> Formatter::Format(std::string_view text, int depth) {
  if (depth > 2) return InvalidArgument("format(): fields are nested too deep");
  Heap& heap = interpreter_.heap();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      out.push_back(c);
      ++at;
      continue;
    }
    if (depth == 1 && at + 1 < text.size() && text[at + 1] == c) {
      out.push_back(c);
      at += 2;
      continue;
    }
    if (c == '}') return InvalidArgument("format(): a single '}' stands in the text");
    int open = 1;
    size_t end = at + 1;
    for (; end < text.size() && open > 0; ++end) {
      if (text[end] == '{') ++open;
      if (text[end] == '}') --open;
    }
    if (open > 0) return InvalidArgument("format(): a '{' is not closed");
    ROLLCALL_RETURN_IF_ERROR(heap.Step());
    ROLLCALL_ASSIGN_OR_RETURN(const std::string field,
                              Field(text.substr(at + 1, end - at - 2), depth));
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(out.size() + field.size()));
    out += field;
    at = end;
  }
  return out;
}

}  // namespace

StatusOr<Value> StrFormat(Interpreter& interpreter, const Value& self, CallArgs args) {
  if (self.string().is_markup) {
    return Unimplemented("format() of a text marked as safe is not supported");
  }
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size()));
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, Formatter(interpreter, args).Format(self.text(), 1));
  return interpreter.heap().String(std::move(text));
}

}  // namespace rollcall::jinja
