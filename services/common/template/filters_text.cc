// Filters that make texts.
#include <algorithm>
#include <iterator>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/escape.h"
#include "services/common/template/filters.h"
#include "services/common/template/iterate.h"
#include "services/common/template/json_value.h"
#include "services/common/template/methods.h"
#include "services/common/template/operators.h"
#include "services/common/template/percent_format.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

// A string as it is, anything else as str() of it.
StatusOr<Value> SoftString(Interpreter& interpreter, const Value& value) {
  if (value.is_string()) return value;
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, Str(interpreter.heap(), value));
  return interpreter.heap().String(std::move(text));
}

// A filter that is a method of str.
StatusOr<Value> CallMethod(Interpreter& interpreter, const Value& value, std::string_view name,
                           CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value text, SoftString(interpreter, value));
  const Method* method = FindMethod(text, name);
  if (method == nullptr || method->fn == nullptr) return Internal("no method " + std::string(name));
  return method->fn(interpreter, text, std::move(args));
}

StatusOr<Value> Upper(Interpreter& interpreter, const Value& value, CallArgs args) {
  return CallMethod(interpreter, value, "upper", std::move(args));
}
StatusOr<Value> Lower(Interpreter& interpreter, const Value& value, CallArgs args) {
  return CallMethod(interpreter, value, "lower", std::move(args));
}
StatusOr<Value> Capitalize(Interpreter& interpreter, const Value& value, CallArgs args) {
  return CallMethod(interpreter, value, "capitalize", std::move(args));
}

StatusOr<Value> Center(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("center", std::move(args), {"width"}));
  CallArgs passed;
  passed.positional.push_back(bound.Or(0, Value::Int(80)));
  return CallMethod(interpreter, value, "center", std::move(passed));
}

StatusOr<Value> Trim(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("trim", std::move(args), {"chars"}));
  CallArgs passed;
  passed.positional.push_back(bound.Or(0, Value::None()));
  return CallMethod(interpreter, value, "strip", std::move(passed));
}

// Unlike str.title(): a word begins only at the start and behind blanks and opening brackets.
StatusOr<Value> Title(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("title", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(const Value string, SoftString(interpreter, value));
  const std::string_view text = string.text();
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckStringBytes(text.size(), 3));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(text.size() * 4));
  const auto is_separator = [](char32_t c) {
    return c == U'-' || c == U'(' || c == U'{' || c == U'[' || c == U'<' || HasFlag(c, kSpace);
  };
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const bool separator = is_separator(NextChar(text, &i));
    const size_t second = i;
    while (i < text.size()) {
      size_t next = i;
      if (is_separator(NextChar(text, &next)) != separator) break;
      i = next;
    }
    out += ToUpper(text.substr(begin, second - begin));
    out += ToLower(text.substr(second, i - second));
  }
  return interpreter.heap().String(std::move(out));
}

StatusOr<Value> Replace(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("replace", std::move(args), {"old", "new", "count"}, 2));
  Heap& heap = interpreter.heap();
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap, value));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string old_text, Str(heap, bound[0]));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string new_text, Str(heap, bound[1]));
  int64_t count = -1;
  if (bound.Has(2) && !bound[2].is_none()) {
    ROLLCALL_ASSIGN_OR_RETURN(count, bound.Int(2, -1));
  }
  ROLLCALL_ASSIGN_OR_RETURN(std::string out, ReplaceText(heap, text, old_text, new_text, count));
  return heap.String(std::move(out));
}

StatusOr<Value> Join(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("join", std::move(args), {"d", "attribute"}));
  Heap& heap = interpreter.heap();
  std::string separator;
  if (bound.Has(0)) {
    ROLLCALL_ASSIGN_OR_RETURN(separator, Str(heap, bound[0]));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (bound.Has(1) && !bound[1].is_none()) {
      ROLLCALL_ASSIGN_OR_RETURN(item, AttributePath(interpreter, item, bound[1], nullptr));
    }
    if (i > 0) out += separator;
    ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap, item));
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(out.size() + text.size()));
    ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(text.size() + separator.size()));
    out += text;
  }
  return heap.String(std::move(out));
}

StatusOr<Value> Indent(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("indent", std::move(args), {"width", "first", "blank"}));
  Heap& heap = interpreter.heap();
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_string()) return InvalidArgument("indent takes a text, not a " + TypeName(value));
  std::string indention;
  if (bound.Has(0) && bound[0].is_string()) {
    indention = bound[0].text();
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(const int64_t width, bound.Int(0, 4));
    const auto count = static_cast<size_t>(std::max<int64_t>(0, width));
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(count));
    indention.assign(count, ' ');
  }
  std::string text(value.text());
  text.push_back('\n');
  ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(text.size() * 4));
  const auto lines = SplitLines(text, false);
  ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(lines.size(), indention.size() + 1));
  ROLLCALL_RETURN_IF_ERROR(
      heap.CheckStringBytes(lines.size() * (indention.size() + 1) + text.size()));
  std::string out = bound.IsTrue(1) ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out.push_back('\n');
      if (!lines[i].empty() || bound.IsTrue(2)) out += indention;
    }
    out += lines[i];
  }
  return heap.StringLike(value, std::move(out));
}

StatusOr<Value> Truncate(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(
      const BoundArgs bound,
      BindArgs("truncate", std::move(args), {"length", "killwords", "end", "leeway"}));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t length, bound.Int(0, 255));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view end, bound.Text(2, "..."));
  int64_t leeway = 5;
  if (bound.Has(3) && !bound[3].is_none()) {
    ROLLCALL_ASSIGN_OR_RETURN(leeway, bound.Int(3, 5));
  }
  const int64_t end_chars = CountChars(end);
  if (length < end_chars || leeway < 0) {
    return InvalidArgument(
        "truncate wants a length of at least that of its end, and a leeway of "
        "at least zero");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t size, Length(value));
  // The sum would overflow for the largest lengths.
  if (size - leeway <= length) return value;
  if (!value.is_string()) return InvalidArgument("truncate takes a text, not a " + TypeName(value));
  std::string_view kept = value.text().substr(0, ByteOffset(value.text(), length - end_chars));
  if (!bound.IsTrue(1)) {
    const size_t blank = kept.rfind(' ');
    if (blank != std::string_view::npos) kept = kept.substr(0, blank);
  }
  return interpreter.heap().StringLike(value, std::string(kept) + std::string(end));
}

StatusOr<Value> WordCount(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("wordcount", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(const Value text, SoftString(interpreter, value));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(text.text().size() * 4));
  int64_t count = 0;
  bool in_word = false;
  for (size_t i = 0; i < text.text().size();) {
    const bool is_word = IsWordChar(NextChar(text.text(), &i));
    if (is_word && !in_word) ++count;
    in_word = is_word;
  }
  return Value::Int(count);
}

StatusOr<Value> ToString(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("string", std::move(args), {}));
  return SoftString(interpreter, value);
}

StatusOr<Value> Safe(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("safe", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, Str(interpreter.heap(), value));
  return interpreter.heap().Markup(std::move(text));
}

StatusOr<Value> Escape(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("escape", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(const Value text, SoftString(interpreter, value));
  ROLLCALL_ASSIGN_OR_RETURN(std::string escaped, EscapeHtml(interpreter.heap(), text));
  return interpreter.heap().Markup(std::move(escaped));
}

StatusOr<Value> Format(Interpreter& interpreter, const Value& value, CallArgs args) {
  Heap& heap = interpreter.heap();
  if (!args.positional.empty() && !args.named.empty()) {
    return InvalidArgument("format takes arguments with names or without, not both");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Value format, SoftString(interpreter, value));
  if (args.named.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value tuple, heap.Tuple(std::move(args.positional)));
    return PercentFormat(heap, format, tuple);
  }
  std::vector<DictObject::Entry> entries;
  for (auto& [key, item] : args.named) {
    ROLLCALL_ASSIGN_OR_RETURN(Value text, heap.String(key));
    entries.emplace_back(std::move(text), std::move(item));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Value dict, heap.Dict(std::move(entries)));
  return PercentFormat(heap, format, dict);
}

std::string UrlQuote(std::string_view text, bool in_query) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !in_query);
    if (plain) {
      out.push_back(c);
    } else if (c == ' ' && in_query) {
      out.push_back('+');
    } else {
      out.push_back('%');
      out.push_back(kHex[(static_cast<unsigned char>(c) >> 4) & 0xF]);
      out.push_back(kHex[static_cast<unsigned char>(c) & 0xF]);
    }
  }
  return out;
}

StatusOr<Value> UrlEncode(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("urlencode", std::move(args), {}));
  Heap& heap = interpreter.heap();
  const auto quote = [&](const Value& part, bool in_query) -> StatusOr<std::string> {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap, part));
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(text.size(), 3));
    return UrlQuote(text, in_query);
  };
  if (value.is_string() || !IsIterable(value)) {
    ROLLCALL_ASSIGN_OR_RETURN(std::string quoted, quote(value, false));
    return heap.String(std::move(quoted));
  }
  Value pairs = value;
  if (value.is(Kind::kDict)) {
    ROLLCALL_ASSIGN_OR_RETURN(pairs, heap.DictView(value, DictViewObject::What::kItems));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, pairs));
  std::string out;
  for (const Value& item : items) {
    ROLLCALL_ASSIGN_OR_RETURN(const auto pair, Collect(interpreter, item));
    if (pair.size() != 2) return InvalidArgument("urlencode wants pairs of a key and a value");
    ROLLCALL_ASSIGN_OR_RETURN(const std::string key, quote(pair[0], true));
    ROLLCALL_ASSIGN_OR_RETURN(const std::string text, quote(pair[1], true));
    if (!out.empty()) out.push_back('&');
    out += key + "=" + text;
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(out.size()));
  }
  return heap.String(std::move(out));
}

StatusOr<Value> ToJson(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(
      const BoundArgs bound,
      BindArgs("tojson", std::move(args), {"ensure_ascii", "indent", "separators", "sort_keys"}));
  DumpOptions options;
  options.ensure_ascii = bound.IsTrue(0);
  if (bound.Has(1) && !bound[1].is_none()) {
    if (bound[1].is_string()) {
      options.indent = std::string(bound[1].text());
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(const int64_t width, bound.Int(1, 0));
      if (width > 1000) return InvalidArgument("tojson: an indent over 1000 is not supported");
      options.indent = std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    }
    options.item_separator = ",";
  }
  if (bound.Has(2) && !bound[2].is_none()) {
    ROLLCALL_ASSIGN_OR_RETURN(const auto parts, Collect(interpreter, bound[2]));
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
      return InvalidArgument("tojson: separators must be a pair of texts");
    }
    options.item_separator = std::string(parts[0].text());
    options.key_separator = std::string(parts[1].text());
  }
  options.sort_keys = bound.IsTrue(3);
  ROLLCALL_ASSIGN_OR_RETURN(std::string json, DumpJson(interpreter.heap(), value, options));
  return interpreter.heap().String(std::move(json));
}

constexpr NamedFilter kFilters[] = {
    {"capitalize", Capitalize},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"format", Format},
    {"indent", Indent},
    {"join", Join},
    {"lower", Lower},
    {"replace", Replace},
    {"safe", Safe},
    {"string", ToString},
    {"title", Title},
    {"tojson", ToJson},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", Upper},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

FilterFn FindTextFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& filter) { return filter.name == name; });
  return it == std::end(kFilters) ? nullptr : it->fn;
}

}  // namespace rollcall::jinja
