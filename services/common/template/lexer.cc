#include "services/common/template/lexer.h"

#include <algorithm>
#include <utility>

#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// \r\n and \r become \n, one newline at the end goes.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source)), text_(source_) {}

  StatusOr<std::vector<Token>> Run();

 private:
  enum class Tag { kNone, kRaw, kBlock, kComment, kVariable };
  struct Found {
    Tag tag = Tag::kNone;
    size_t begin = 0;  // of the tag
    size_t end = 0;    // behind its opening
    char sign = '\0';
  };

  bool At(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  Status Error(const std::string& message) const { return AtLine(InvalidArgument(message), line_); }
  size_t SkipSpace(size_t offset) const;
  Found FindTag() const;
  bool MatchRaw(size_t begin, std::string_view word, bool is_end, Found* found) const;
  void Advance(size_t end);
  void PushData(std::string_view data);
  std::string_view StripBefore(std::string_view data, char sign, bool is_variable) const;
  Status LexComment();
  Status LexRaw();
  Status LexCode(bool is_variable);
  bool LexCodeEnd(bool is_variable);
  Status LexToken();
  Status LexNumber();
  Status LexName();
  Status LexString();
  Status LexEscape(std::string_view body, size_t* i, std::string* out) const;
  Status LexOperator();

  const std::string source_;
  const std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last match ended in a newline
  std::string open_;           // brackets that are open
  std::vector<Token> tokens_;
};

size_t Lexer::SkipSpace(size_t offset) const {
  while (offset < text_.size()) {
    size_t next = offset;
    if (!HasFlag(NextChar(text_, &next), kSpace)) break;
    offset = next;
  }
  return offset;
}

void Lexer::Advance(size_t end) {
  line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_),
                                       text_.begin() + static_cast<ptrdiff_t>(end), '\n'));
  if (end > at_) line_starting_ = text_[end - 1] == '\n';
  at_ = end;
}

void Lexer::PushData(std::string_view data) {
  if (!data.empty()) tokens_.push_back({TokenKind::kData, line_, std::string(data)});
}

// {% raw %}, or {% endraw %} with what it trims behind it.
bool Lexer::MatchRaw(size_t begin, std::string_view word, bool is_end, Found* found) const {
  size_t i = begin + 2;
  char sign = '\0';
  if (i < text_.size() && (text_[i] == '-' || text_[i] == '+')) sign = text_[i++];
  i = SkipSpace(i);
  if (!text_.substr(i).starts_with(word)) return false;
  i = SkipSpace(i + word.size());
  const std::string_view rest = text_.substr(i);
  if (rest.starts_with("-%}")) {
    i = SkipSpace(i + 3);
  } else if (rest.starts_with("%}")) {
    i += 2;
    if (is_end && i < text_.size() && text_[i] == '\n') ++i;
  } else if (is_end && rest.starts_with("+%}")) {
    i += 3;
  } else {
    return false;
  }
  *found = {Tag::kRaw, begin, i, sign};
  return true;
}

Lexer::Found Lexer::FindTag() const {
  for (size_t i = text_.find('{', at_); i != std::string_view::npos; i = text_.find('{', i + 1)) {
    if (i + 1 >= text_.size()) break;
    Found found;
    switch (text_[i + 1]) {
      case '%':
        if (MatchRaw(i, "raw", false, &found)) return found;
        found.tag = Tag::kBlock;
        break;
      case '#':
        found.tag = Tag::kComment;
        break;
      case '{':
        found.tag = Tag::kVariable;
        break;
      default:
        continue;
    }
    found.begin = i;
    found.end = i + 2;
    if (found.end < text_.size() && (text_[found.end] == '-' || text_[found.end] == '+')) {
      found.sign = text_[found.end++];
    }
    return found;
  }
  return {};
}

std::string_view Lexer::StripBefore(std::string_view data, char sign, bool is_variable) const {
  if (sign == '-') return Strip(data, Side::kRight);
  if (sign == '+' || is_variable) return data;
  const size_t newline = data.rfind('\n');
  const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
  if (line == 0 && !line_starting_) return data;
  return Strip(data.substr(line), Side::kBoth).empty() ? data.substr(0, line) : data;
}

StatusOr<std::vector<Token>> Lexer::Run() {
  while (at_ < text_.size()) {
    const Found found = FindTag();
    if (found.tag == Tag::kNone) {
      PushData(text_.substr(at_));
      Advance(text_.size());
      break;
    }
    PushData(
        StripBefore(text_.substr(at_, found.begin - at_), found.sign, found.tag == Tag::kVariable));
    Advance(found.begin);
    const bool is_code = found.tag == Tag::kBlock || found.tag == Tag::kVariable;
    if (is_code) {
      tokens_.push_back(
          {found.tag == Tag::kBlock ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, line_});
    }
    Advance(found.end);
    if (found.tag == Tag::kComment) ROLLCALL_RETURN_IF_ERROR(LexComment());
    if (found.tag == Tag::kRaw) ROLLCALL_RETURN_IF_ERROR(LexRaw());
    if (is_code) ROLLCALL_RETURN_IF_ERROR(LexCode(found.tag == Tag::kVariable));
  }
  tokens_.push_back({TokenKind::kEnd, line_});
  return std::move(tokens_);
}

Status Lexer::LexComment() {
  // "-#}" and "+#}" end where "#}" is; the sign must stand behind the opening.
  const size_t close = text_.find("#}", at_);
  if (close == std::string_view::npos) return Error("the comment is not closed: '#}' is missing");
  size_t end = close + 2;
  const char sign = close > at_ ? text_[close - 1] : '\0';
  if (sign == '-') {
    end = SkipSpace(end);
  } else if (sign != '+' && end < text_.size() && text_[end] == '\n') {
    ++end;
  }
  Advance(end);
  return OkStatus();
}

Status Lexer::LexRaw() {
  for (size_t i = text_.find("{%", at_); i != std::string_view::npos; i = text_.find("{%", i + 1)) {
    Found found;
    if (!MatchRaw(i, "endraw", true, &found)) continue;
    PushData(StripBefore(text_.substr(at_, i - at_), found.sign, false));
    Advance(found.end);
    return OkStatus();
  }
  return Error("the raw block is not closed: '{% endraw %}' is missing");
}

bool Lexer::LexCodeEnd(bool is_variable) {
  if (!open_.empty()) return false;
  const std::string_view close = is_variable ? "}}" : "%}";
  size_t end = at_;
  if (At("-") && text_.substr(at_ + 1).starts_with(close)) {
    end = SkipSpace(at_ + 3);
  } else if (!is_variable && At("+%}")) {
    end = at_ + 3;
  } else if (At(close)) {
    end = at_ + 2;
    if (!is_variable && end < text_.size() && text_[end] == '\n') ++end;
  } else {
    return false;
  }
  tokens_.push_back({is_variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, line_});
  Advance(end);
  return true;
}

Status Lexer::LexCode(bool is_variable) {
  open_.clear();
  while (at_ < text_.size()) {
    if (LexCodeEnd(is_variable)) return OkStatus();
    const size_t skipped = SkipSpace(at_);
    if (skipped != at_) {
      Advance(skipped);
      continue;
    }
    ROLLCALL_RETURN_IF_ERROR(LexToken());
  }
  return OkStatus();  // The parser says what is missing.
}

Status Lexer::LexToken() {
  const char c = text_[at_];
  if (IsDigit(c)) return LexNumber();
  if (c == '\'' || c == '"') return LexString();
  size_t next = at_;
  const char32_t first = NextChar(text_, &next);
  if (IsWordChar(first)) return LexName();
  return LexOperator();
}

Status Lexer::LexNumber() {
  const auto digits = [&](size_t i) {  // (\d+_)*\d+
    size_t end = i;
    while (end < text_.size() &&
           (IsDigit(text_[end]) || (text_[end] == '_' && end > i && end + 1 < text_.size() &&
                                    IsDigit(text_[end + 1]) && IsDigit(text_[end - 1])))) {
      ++end;
    }
    return end;
  };
  const auto exponent = [&](size_t i) {
    if (i >= text_.size() || (text_[i] != 'e' && text_[i] != 'E')) return i;
    size_t begin = i + 1;
    if (begin < text_.size() && (text_[begin] == '+' || text_[begin] == '-')) ++begin;
    const size_t end = digits(begin);
    return end == begin ? i : end;
  };
  const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
  const size_t whole = digits(at_);
  size_t end = whole;
  if (!after_dot) {
    if (whole < text_.size() && text_[whole] == '.') {
      const size_t fraction = digits(whole + 1);
      if (fraction > whole + 1) end = fraction;
    }
    end = exponent(end);
  }
  if (end > whole) {
    const auto value = ParseFloat(text_.substr(at_, end - at_));
    if (!value) return Error("'" + std::string(text_.substr(at_, end - at_)) + "' is no number");
    tokens_.push_back({TokenKind::kFloat, line_, {}, 0, *value});
    Advance(end);
    return OkStatus();
  }
  // An integer: 0x.., 0o.., 0b.., or decimal without leading zeros.
  const char kind =
      at_ + 1 < text_.size() && text_[at_] == '0' ? static_cast<char>(text_[at_ + 1] | 0x20) : ' ';
  const int base = kind == 'x' ? 16 : (kind == 'o' ? 8 : (kind == 'b' ? 2 : 10));
  if (base != 10) {
    end = at_ + 2;
    while (end < text_.size()) {
      const size_t i = text_[end] == '_' ? end + 1 : end;
      if (i >= text_.size() || HexDigit(text_[i]) < 0 || HexDigit(text_[i]) >= base) break;
      end = i + 1;
    }
    if (end == at_ + 2) end = at_ + 1;  // "0x" is a zero and a name.
  } else if (text_[at_] == '0') {
    end = at_ + 1;
    while (end < text_.size() &&
           (text_[end] == '0' ||
            (text_[end] == '_' && end + 1 < text_.size() && text_[end + 1] == '0'))) {
      ++end;
    }
  } else {
    end = whole;
  }
  std::string plain(text_.substr(at_, end - at_));
  std::erase(plain, '_');
  const StatusOr<std::optional<int64_t>> value = ParseInt(plain, 0);
  if (!value.ok()) return AtLine(value.status(), line_);
  if (!*value) return Error("'" + plain + "' is no integer");
  tokens_.push_back({TokenKind::kInteger, line_, {}, **value});
  Advance(end);
  return OkStatus();
}

Status Lexer::LexName() {
  size_t end = at_;
  while (end < text_.size()) {
    size_t next = end;
    if (!IsWordChar(NextChar(text_, &next))) break;
    end = next;
  }
  const std::string_view name = text_.substr(at_, end - at_);
  size_t first_end = 0;
  const char32_t first = NextChar(name, &first_end);
  if (first != U'_' && !HasFlag(first, kAlpha)) {
    return Error("invalid character in the name '" + std::string(name) + "'");
  }
  tokens_.push_back({TokenKind::kName, line_, std::string(name)});
  Advance(end);
  return OkStatus();
}

// One escape of Python's "unicode-escape", whose backslash stands at *i, which is moved past it.
Status Lexer::LexEscape(std::string_view body, size_t* i, std::string* out) const {
  const size_t begin = *i + 1;
  if (begin >= body.size()) return Error("a backslash at the end of a text");
  const char c = body[begin];
  *i = begin + 1;
  constexpr std::string_view kSimple = "\\'\"abfnrtv";
  constexpr std::string_view kMeaning = "\\'\"\a\b\f\n\r\t\v";
  const size_t simple = kSimple.find(c);
  if (simple != std::string_view::npos) {
    out->push_back(kMeaning[simple]);
    return OkStatus();
  }
  if (c == '\n') return OkStatus();
  uint32_t code = 0;
  if (c >= '0' && c <= '7') {
    size_t end = begin;
    while (end < body.size() && end < begin + 3 && body[end] >= '0' && body[end] <= '7') {
      code = code * 8 + static_cast<uint32_t>(body[end++] - '0');
    }
    *i = end;
    AppendUtf8(code, out);
    return OkStatus();
  }
  if (c == 'x' || c == 'u' || c == 'U') {
    const size_t count = c == 'x' ? 2 : (c == 'u' ? 4 : 8);
    for (size_t k = 0; k < count; ++k, ++*i) {
      if (*i >= body.size() || HexDigit(body[*i]) < 0) {
        return Error(std::string("a \\") + c + " escape wants " + std::to_string(count) +
                     " hexadecimal digits");
      }
      code = code * 16 + static_cast<uint32_t>(HexDigit(body[*i]));
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      return Error("an escape names the code point " + std::to_string(code) +
                   ", which is no character");
    }
    AppendUtf8(code, out);
    return OkStatus();
  }
  if (c == 'N') return Error("\\N{...} escapes are not supported: write the character itself");
  out->push_back('\\');
  if ((c & 0x80) == 0) {
    out->push_back(c);
    return OkStatus();
  }
  // jinja2 has turned the character into an escape of its own by then, and its backslash is gone.
  size_t next = begin;
  const char32_t wide = NextChar(body, &next);
  std::string escaped;
  constexpr char kHex[] = "0123456789abcdef";
  const int digits = wide <= 0xFF ? 2 : (wide <= 0xFFFF ? 4 : 8);
  escaped.push_back(wide <= 0xFF ? 'x' : (wide <= 0xFFFF ? 'u' : 'U'));
  for (int k = digits - 1; k >= 0; --k) escaped.push_back(kHex[(wide >> (4 * k)) & 0xF]);
  *out += escaped;
  *i = next;
  return OkStatus();
}

Status Lexer::LexString() {
  const char quote = text_[at_];
  size_t end = at_ + 1;
  while (end < text_.size() && text_[end] != quote) {
    end += text_[end] == '\\' ? 2 : 1;
  }
  if (end >= text_.size()) return Error("a text is not closed: its quote is missing");
  const std::string_view body = text_.substr(at_ + 1, end - at_ - 1);
  std::string out;
  for (size_t i = 0; i < body.size();) {
    if (body[i] == '\\') {
      ROLLCALL_RETURN_IF_ERROR(LexEscape(body, &i, &out));
    } else {
      out.push_back(body[i++]);
    }
  }
  tokens_.push_back({TokenKind::kString, line_, std::move(out)});
  Advance(end + 1);
  return OkStatus();
}

Status Lexer::LexOperator() {
  constexpr std::string_view kLong[] = {"//", "**", "==", "!=", ">=", "<="};
  constexpr std::string_view kShort = "+-/*%~[](){}><=.:|,;";
  size_t size = 0;
  for (const std::string_view op : kLong) {
    if (At(op)) size = 2;
  }
  const char c = text_[at_];
  if (size == 0 && kShort.find(c) == std::string_view::npos) {
    size_t next = at_;
    NextChar(text_, &next);
    return Error("unexpected character '" + std::string(text_.substr(at_, next - at_)) + "'");
  }
  size = std::max(size, size_t{1});
  if (size == 1) {
    if (c == '(' || c == '[' || c == '{') {
      open_.push_back(c == '(' ? ')' : (c == '[' ? ']' : '}'));
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_.empty()) return Error(std::string("unexpected '") + c + "'");
      if (open_.back() != c) {
        return Error(std::string("unexpected '") + c + "', expected '" + open_.back() + "'");
      }
      open_.pop_back();
    }
  }
  tokens_.push_back({TokenKind::kOperator, line_, std::string(text_.substr(at_, size))});
  Advance(at_ + size);
  return OkStatus();
}

}  // namespace

Status AtLine(const Status& status, int line) {
  return Annotate(status, "line " + std::to_string(line));
}

StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  const size_t invalid = FindInvalidUtf8(source);
  if (invalid != source.size()) {
    return InvalidArgument("not UTF-8 at byte " + std::to_string(invalid + 1));
  }
  return Lexer(source).Run();
}

}  // namespace rollcall::jinja
