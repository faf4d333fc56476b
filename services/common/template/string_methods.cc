// Methods of Python's str.
#include <algorithm>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/escape.h"
#include "services/common/template/iterate.h"
#include "services/common/template/methods.h"
#include "services/common/template/operators.h"
#include "services/common/template/text_search.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

using Sort = Method::Sort;

StatusOr<Value> Pieces(Interpreter& interpreter, const Value& self,
                       const std::vector<std::string_view>& pieces) {
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    ROLLCALL_ASSIGN_OR_RETURN(Value item, interpreter.heap().StringLike(self, std::string(piece)));
    items.push_back(std::move(item));
  }
  return interpreter.heap().List(std::move(items));
}

template <std::string (*convert)(std::string_view)>
StatusOr<Value> Convert(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the method", std::move(args), {}));
  // A mapping may be three characters for one.
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckStringBytes(self.text().size(), 3));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size() * 4));
  return interpreter.heap().StringLike(self, convert(self.text()));
}

template <Side side>
StatusOr<Value> StripMethod(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("strip", std::move(args), {""}));
  std::string_view stripped;
  if (!bound.Has(0) || bound[0].is_none()) {
    stripped = Strip(self.text(), side);
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string_view chars, bound.Text(0, {}));
    ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step(static_cast<int64_t>(
        std::min<size_t>(chars.size(), 1 << 20) * (self.text().size() / 64 + 1))));
    stripped = StripChars(self.text(), chars, side);
  }
  return interpreter.heap().StringLike(self, std::string(stripped));
}

// The separator of split and its kin, none for white space; and the most splits, negative for any.
StatusOr<std::pair<std::optional<std::string>, int64_t>> SplitArgs(CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("split", std::move(args), {"sep", "maxsplit"}));
  std::optional<std::string> separator;
  if (bound.Has(0) && !bound[0].is_none()) {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string_view text, bound.Text(0, {}));
    if (text.empty()) return InvalidArgument("split(): the separator is empty");
    separator = std::string(text);
  }
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t max_splits, bound.Int(1, -1));
  return std::pair{std::move(separator), max_splits};
}

std::vector<std::string_view> SplitBlanks(std::string_view text, int64_t max_splits) {
  std::vector<std::string_view> pieces;
  std::string_view rest = Strip(text, Side::kLeft);
  while (!rest.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(pieces.size()) >= max_splits) {
      pieces.push_back(rest);
      break;
    }
    size_t end = 0;
    while (end < rest.size()) {
      size_t next = end;
      if (HasFlag(NextChar(rest, &next), kSpace)) break;
      end = next;
    }
    pieces.push_back(rest.substr(0, end));
    rest = Strip(rest.substr(end), Side::kLeft);
  }
  return pieces;
}

std::vector<std::string_view> SplitBlanksFromRight(std::string_view text, int64_t max_splits) {
  std::vector<std::string_view> pieces;
  std::string_view rest = Strip(text, Side::kRight);
  while (!rest.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(pieces.size()) >= max_splits) {
      pieces.push_back(rest);
      break;
    }
    size_t begin = rest.size();
    while (begin > 0) {
      size_t last = begin - 1;
      while (last > 0 && (rest[last] & 0xC0) == 0x80) --last;
      size_t offset = last;
      if (HasFlag(NextChar(rest, &offset), kSpace)) break;
      begin = last;
    }
    pieces.push_back(rest.substr(begin));
    rest = Strip(rest.substr(0, begin), Side::kRight);
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

StatusOr<Value> SplitMethod(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto parsed, SplitArgs(std::move(args)));
  const auto& [separator, max_splits] = parsed;
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size()));
  if (!separator) return Pieces(interpreter, self, SplitBlanks(self.text(), max_splits));
  std::vector<std::string_view> pieces;
  std::string_view rest = self.text();
  while (max_splits < 0 || static_cast<int64_t>(pieces.size()) < max_splits) {
    const size_t at = FindText(rest, *separator);
    if (at == std::string_view::npos) break;
    ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
    pieces.push_back(rest.substr(0, at));
    rest.remove_prefix(at + separator->size());
  }
  pieces.push_back(rest);
  return Pieces(interpreter, self, pieces);
}

StatusOr<Value> RsplitMethod(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto parsed, SplitArgs(std::move(args)));
  const auto& [separator, max_splits] = parsed;
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size()));
  if (!separator) return Pieces(interpreter, self, SplitBlanksFromRight(self.text(), max_splits));
  std::vector<std::string_view> pieces;
  std::string_view rest = self.text();
  while (max_splits < 0 || static_cast<int64_t>(pieces.size()) < max_splits) {
    ROLLCALL_ASSIGN_OR_RETURN(const size_t at, FindLastText(interpreter.heap(), rest, *separator));
    if (at == std::string_view::npos) break;
    ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
    pieces.push_back(rest.substr(at + separator->size()));
    rest = rest.substr(0, at);
  }
  pieces.push_back(rest);
  std::reverse(pieces.begin(), pieces.end());
  return Pieces(interpreter, self, pieces);
}

StatusOr<Value> SplitLinesMethod(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("splitlines", std::move(args), {"keepends"}));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size() * 4));
  return Pieces(interpreter, self, SplitLines(self.text(), bound.IsTrue(0)));
}

template <bool from_right>
StatusOr<Value> Partition(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("partition", std::move(args), {""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view separator, bound.Text(0, {}));
  if (separator.empty()) return InvalidArgument("partition(): the separator is empty");
  const std::string_view text = self.text();
  size_t at = FindText(text, separator);
  if (from_right) {
    ROLLCALL_ASSIGN_OR_RETURN(at, FindLastText(interpreter.heap(), text, separator));
  }
  std::string_view pieces[3] = {text, {}, {}};
  if (at != std::string_view::npos) {
    pieces[0] = text.substr(0, at);
    pieces[1] = separator;
    pieces[2] = text.substr(at + separator.size());
  } else if (from_right) {
    std::swap(pieces[0], pieces[2]);
  }
  std::vector<Value> items;
  for (const std::string_view piece : pieces) {
    ROLLCALL_ASSIGN_OR_RETURN(Value item, interpreter.heap().StringLike(self, std::string(piece)));
    items.push_back(std::move(item));
  }
  return interpreter.heap().Tuple(std::move(items));
}

// The part of a text that the arguments start and end leave, as a slice does; nothing when start is
// past the end, where not even the empty text is found.
struct Window {
  std::string_view text;
  int64_t begin_char = 0;
  bool valid = true;
};

StatusOr<Window> WindowOf(const Value& self, const BoundArgs& bound, size_t first) {
  const int64_t size = self.string().num_chars;
  int64_t ends[2] = {0, size};
  for (size_t i = 0; i < 2; ++i) {
    if (!bound.Has(first + i) || bound[first + i].is_none()) continue;
    ROLLCALL_ASSIGN_OR_RETURN(ends[i], bound.Int(first + i, 0));
    if (ends[i] < 0) ends[i] = ends[i] < -size ? 0 : ends[i] + size;
  }
  Window window;
  if (ends[0] > size || ends[0] > ends[1]) {
    window.valid = false;
    return window;
  }
  ends[1] = std::min(ends[1], size);
  const std::string_view text = self.text();
  const size_t begin = ByteOffset(text, ends[0]);
  window.text = text.substr(begin, ByteOffset(text.substr(begin), ends[1] - ends[0]));
  window.begin_char = ends[0];
  return window;
}

template <bool at_end>
StatusOr<Value> StartsWith(Interpreter& /*interpreter*/, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("startswith", std::move(args), {"", "", ""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const Window window, WindowOf(self, bound, 1));
  const auto matches = [&](const Value& affix) -> StatusOr<bool> {
    if (!affix.is_string()) {
      return InvalidArgument("startswith(): a text or a tuple of texts is needed, not " +
                             TypeName(affix));
    }
    if (!window.valid) return false;
    return at_end ? window.text.ends_with(affix.text()) : window.text.starts_with(affix.text());
  };
  if (!bound[0].is(Kind::kTuple)) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool found, matches(bound[0]));
    return Value::Bool(found);
  }
  for (const Value& affix : bound[0].items()) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool found, matches(affix));
    if (found) return Value::Bool(true);
  }
  return Value::Bool(false);
}

enum class Missing { kMinusOne, kError };

template <bool from_right, Missing missing>
StatusOr<Value> Find(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("find", std::move(args), {"", "", ""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view wanted, bound.Text(0, {}));
  ROLLCALL_ASSIGN_OR_RETURN(const Window window, WindowOf(self, bound, 1));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size()));
  size_t at = std::string_view::npos;
  if (window.valid && from_right) {
    ROLLCALL_ASSIGN_OR_RETURN(at, FindLastText(interpreter.heap(), window.text, wanted));
  } else if (window.valid) {
    at = FindText(window.text, wanted);
  }
  if (at == std::string_view::npos) {
    if (missing == Missing::kError) return InvalidArgument("index(): the text is not there");
    return Value::Int(-1);
  }
  return Value::Int(window.begin_char + CountChars(window.text.substr(0, at)));
}

StatusOr<Value> Count(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("count", std::move(args), {"", "", ""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view wanted, bound.Text(0, {}));
  ROLLCALL_ASSIGN_OR_RETURN(const Window window, WindowOf(self, bound, 1));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size()));
  if (!window.valid) return Value::Int(0);
  if (wanted.empty()) return Value::Int(CountChars(window.text) + 1);
  int64_t count = 0;
  for (size_t at = FindText(window.text, wanted); at != std::string_view::npos;
       at = FindText(window.text, wanted, at + wanted.size())) {
    ++count;
  }
  return Value::Int(count);
}

StatusOr<Value> Replace(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("replace", std::move(args), {"", "", ""}, 2));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view old_text, bound.Text(0, {}));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view new_text, bound.Text(1, {}));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t max_count, bound.Int(2, -1));
  ROLLCALL_ASSIGN_OR_RETURN(
      std::string text,
      ReplaceText(interpreter.heap(), self.text(), old_text,
                  self.string().is_markup && !bound[1].string().is_markup ? EscapeHtml(new_text)
                                                                          : std::string(new_text),
                  max_count));
  return interpreter.heap().StringLike(self, std::move(text));
}

StatusOr<Value> Join(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("join", std::move(args), {""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      return InvalidArgument("join(): item " + std::to_string(i) + " is a " + TypeName(items[i]) +
                             ", not a text");
    }
    ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckStringBytes(out.size() + self.text().size() +
                                                                 items[i].text().size() * 5));
    if (i > 0) out += self.text();
    if (self.string().is_markup) {
      ROLLCALL_ASSIGN_OR_RETURN(const std::string escaped,
                                EscapeHtml(interpreter.heap(), items[i]));
      out += escaped;
    } else {
      out += items[i].text();
    }
  }
  return interpreter.heap().StringLike(self, std::move(out));
}

template <bool (*holds)(char32_t), bool empty>
StatusOr<Value> AllChars(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the method", std::move(args), {}));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size() * 4));
  const std::string_view text = self.text();
  if (text.empty()) return Value::Bool(empty);
  for (size_t i = 0; i < text.size();) {
    if (!holds(NextChar(text, &i))) return Value::Bool(false);
  }
  return Value::Bool(true);
}

bool IsAlnumChar(char32_t c) { return HasFlag(c, kAlpha | kDecimal | kDigit | kNumeric); }
bool IsAlphaChar(char32_t c) { return HasFlag(c, kAlpha); }
bool IsAsciiChar(char32_t c) { return c < 0x80; }
bool IsDecimalChar(char32_t c) { return HasFlag(c, kDecimal); }
bool IsDigitChar(char32_t c) { return HasFlag(c, kDigit); }
bool IsNumericChar(char32_t c) { return HasFlag(c, kNumeric); }
bool IsPrintableChar(char32_t c) { return HasFlag(c, kPrintable); }
bool IsSpaceChar(char32_t c) { return HasFlag(c, kSpace); }

template <CharFlag wanted>
StatusOr<Value> IsCase(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the method", std::move(args), {}));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size() * 4));
  return Value::Bool(IsAllCase(self.text(), wanted));
}

StatusOr<Value> IsTitleMethod(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("istitle", std::move(args), {}));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(self.text().size() * 4));
  bool found = false;
  bool after_cased = false;
  for (size_t i = 0; i < self.text().size();) {
    const char32_t c = NextChar(self.text(), &i);
    if (HasFlag(c, kUpperCase | kTitleCase)) {
      if (after_cased) return Value::Bool(false);
      found = after_cased = true;
    } else if (HasFlag(c, kLowerCase)) {
      if (!after_cased) return Value::Bool(false);
      found = true;
    } else {
      after_cased = false;
    }
  }
  return Value::Bool(found);
}

template <bool from_end>
StatusOr<Value> RemoveAffix(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("removeprefix", std::move(args), {""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view affix, bound.Text(0, {}));
  std::string_view text = self.text();
  if (from_end && text.ends_with(affix)) {
    text.remove_suffix(affix.size());
  } else if (!from_end && text.starts_with(affix)) {
    text.remove_prefix(affix.size());
  }
  return interpreter.heap().StringLike(self, std::string(text));
}

enum class Align { kLeft, kRight, kCenter };

template <Align align>
StatusOr<Value> Justify(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("ljust", std::move(args), {"", ""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t width, bound.Int(0, 0));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view fill, bound.Text(1, " "));
  if (CountChars(fill) != 1) return InvalidArgument("the fill must be exactly one character");
  const int64_t margin = width - self.string().num_chars;
  if (margin <= 0) return self;
  int64_t left = 0;
  if (align == Align::kRight) left = margin;
  if (align == Align::kCenter) left = margin / 2 + (margin & width & 1);
  ROLLCALL_RETURN_IF_ERROR(
      interpreter.heap().CheckStringBytes(static_cast<size_t>(margin), fill.size()));
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (int64_t i = left; i < margin; ++i) out += fill;
  return interpreter.heap().StringLike(self, std::move(out));
}

StatusOr<Value> Zfill(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("zfill", std::move(args), {""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t width, bound.Int(0, 0));
  const int64_t fill = width - self.string().num_chars;
  if (fill <= 0) return self;
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckStringBytes(static_cast<size_t>(fill)));
  std::string out(self.text());
  const bool has_sign = out.starts_with('-') || out.starts_with('+');
  out.insert(has_sign ? 1 : 0, static_cast<size_t>(fill), '0');
  return interpreter.heap().StringLike(self, std::move(out));
}

constexpr Method kStringMethods[] = {
    {"capitalize", Sort::kSupported, Convert<ToCapitalized>},
    {"casefold", Sort::kUnsupported},
    {"center", Sort::kSupported, Justify<Align::kCenter>},
    {"count", Sort::kSupported, Count},
    {"encode", Sort::kUnsupported},
    {"endswith", Sort::kSupported, StartsWith<true>},
    {"expandtabs", Sort::kUnsupported},
    {"find", Sort::kSupported, Find<false, Missing::kMinusOne>},
    {"format", Sort::kSupported, StrFormat},
    {"format_map", Sort::kUnsupported},
    {"index", Sort::kSupported, Find<false, Missing::kError>},
    {"isalnum", Sort::kSupported, AllChars<IsAlnumChar, false>},
    {"isalpha", Sort::kSupported, AllChars<IsAlphaChar, false>},
    {"isascii", Sort::kSupported, AllChars<IsAsciiChar, true>},
    {"isdecimal", Sort::kSupported, AllChars<IsDecimalChar, false>},
    {"isdigit", Sort::kSupported, AllChars<IsDigitChar, false>},
    {"isidentifier", Sort::kUnsupported},
    {"islower", Sort::kSupported, IsCase<kLowerCase>},
    {"isnumeric", Sort::kSupported, AllChars<IsNumericChar, false>},
    {"isprintable", Sort::kSupported, AllChars<IsPrintableChar, true>},
    {"isspace", Sort::kSupported, AllChars<IsSpaceChar, false>},
    {"istitle", Sort::kSupported, IsTitleMethod},
    {"isupper", Sort::kSupported, IsCase<kUpperCase>},
    {"join", Sort::kSupported, Join},
    {"ljust", Sort::kSupported, Justify<Align::kLeft>},
    {"lower", Sort::kSupported, Convert<ToLower>},
    {"lstrip", Sort::kSupported, StripMethod<Side::kLeft>},
    {"maketrans", Sort::kUnsupported},
    {"partition", Sort::kSupported, Partition<false>},
    {"removeprefix", Sort::kSupported, RemoveAffix<false>},
    {"removesuffix", Sort::kSupported, RemoveAffix<true>},
    {"replace", Sort::kSupported, Replace},
    {"rfind", Sort::kSupported, Find<true, Missing::kMinusOne>},
    {"rindex", Sort::kSupported, Find<true, Missing::kError>},
    {"rjust", Sort::kSupported, Justify<Align::kRight>},
    {"rpartition", Sort::kSupported, Partition<true>},
    {"rsplit", Sort::kSupported, RsplitMethod},
    {"rstrip", Sort::kSupported, StripMethod<Side::kRight>},
    {"split", Sort::kSupported, SplitMethod},
    {"splitlines", Sort::kSupported, SplitLinesMethod},
    {"startswith", Sort::kSupported, StartsWith<false>},
    {"strip", Sort::kSupported, StripMethod<Side::kBoth>},
    {"swapcase", Sort::kUnsupported},
    {"title", Sort::kSupported, Convert<ToTitle>},
    {"translate", Sort::kUnsupported},
    {"upper", Sort::kSupported, Convert<ToUpper>},
    {"zfill", Sort::kSupported, Zfill},
};

}  // namespace

std::span<const Method> StringMethods() { return kStringMethods; }

bool IsAllCase(std::string_view text, CharFlag wanted) {
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextChar(text, &i);
    if (HasFlag(c, (kUpperCase | kLowerCase | kTitleCase) & ~wanted)) return false;
    found |= HasFlag(c, wanted);
  }
  return found;
}

StatusOr<std::string> ReplaceText(Heap& heap, std::string_view text, std::string_view old_text,
                                  std::string_view new_text, int64_t max_count) {
  ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(text.size()));
  std::string out;
  int64_t count = 0;
  size_t begin = 0;
  size_t at = FindText(text, old_text);
  while (at != std::string_view::npos && (max_count < 0 || count < max_count)) {
    ROLLCALL_RETURN_IF_ERROR(heap.Step());
    ROLLCALL_RETURN_IF_ERROR(
        heap.CheckStringBytes(out.size() + (at - begin) + new_text.size() + text.size() - at));
    out += text.substr(begin, at - begin);
    out += new_text;
    begin = at + old_text.size();
    ++count;
    if (!old_text.empty()) {
      at = FindText(text, old_text, begin);
    } else if (at == text.size()) {
      break;
    } else {  // The empty text stands before every character and at the end.
      NextChar(text, &at);
    }
  }
  out += text.substr(begin);
  return out;
}

}  // namespace rollcall::jinja
