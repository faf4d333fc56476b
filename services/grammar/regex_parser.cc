#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "services/common/text/utf8.h"
#include "services/grammar/regex.h"

namespace rollcall {
namespace {

CodePointSet Digits() { return {{'0', '9'}}; }
CodePointSet WordCharacters() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CodePointSet Spaces() { return {{'\t', '\r'}, {' ', ' '}}; }

// Recursive descent; the first error wins and ends it.
class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  StatusOr<std::vector<RegexAlternative>> Parse() {
    std::vector<RegexAlternative> alternatives;
    do {
      RegexAlternative& alternative = alternatives.emplace_back();
      alternative.at_begin = Take('^');
      alternative.node = Concatenation(0);
      alternative.at_end = Take('$');
    } while (error_.ok() && Take('|'));
    if (error_.ok() && !at_end()) {
      Fail(Peek() == ')'   ? "a ) without its ("
           : Peek() == '^' ? "^ is supported at the begin of a top-level alternative only"
                           : "$ is supported at the end of a top-level alternative only");
    }
    ROLLCALL_RETURN_IF_ERROR(error_);
    return alternatives;
  }

 private:
  bool at_end() const { return position_ == pattern_.size(); }
  char Peek() const { return at_end() ? '\0' : pattern_[position_]; }
  bool Take(char c) {
    if (at_end() || pattern_[position_] != c) return false;
    ++position_;
    return true;
  }
  bool TakeText(std::string_view text) {
    if (!pattern_.substr(position_).starts_with(text)) return false;
    position_ += text.size();
    return true;
  }

  RegexNode Fail(const std::string& what) {
    if (error_.ok()) {
      error_ =
          InvalidArgument("regular expression, byte " + std::to_string(position_) + ": " + what);
    }
    position_ = pattern_.size();
    return {};
  }

  RegexNode Concatenation(int depth) {
    RegexNode node{.kind = RegexNode::Kind::kConcatenation};
    while (!at_end() && Peek() != '|' && Peek() != ')' && Peek() != '$' && Peek() != '^') {
      node.children.push_back(Repeated(depth));
    }
    return node;
  }

  RegexNode Group(int depth) {
    if (depth >= GrammarLimits::kMaxNesting) return Fail("groups are nested too deeply");
    if (Take('?')) {
      if (!Take(':')) {
        if (TakeText("P<") || (Peek() == '<' && !LooksBehind() && Take('<'))) {
          while (!at_end() && Peek() != '>') ++position_;
          if (!Take('>')) return Fail("the name of a group does not end");
        } else {
          return Fail("of (?... only (?:...) and names of groups are supported");
        }
      }
    }
    RegexNode node{.kind = RegexNode::Kind::kAlternatives};
    do {
      node.children.push_back(Concatenation(depth + 1));
    } while (Take('|'));
    if (error_.ok() && (Peek() == '^' || Peek() == '$')) {
      return Fail("^ and $ inside a group are not supported");
    }
    if (!Take(')')) return Fail("a ( without its )");
    return node;
  }

  bool LooksBehind() const {
    const std::string_view rest = pattern_.substr(position_);
    return rest.starts_with("<=") || rest.starts_with("<!");
  }

  RegexNode Repeated(int depth) {
    RegexNode node = Take('(') ? Group(depth) : Character();
    for (int repeats = 0; error_.ok(); ++repeats) {
      const size_t before = position_;
      const std::optional<std::pair<int, int>> bounds = Bounds();
      if (!bounds) break;
      if (repeats > 0) {
        position_ = before;
        return Fail("a repetition of a repetition; put the inner one into (?:...)");
      }
      RegexNode repeat{
          .kind = RegexNode::Kind::kRepeat, .min = bounds->first, .max = bounds->second};
      repeat.children.push_back(std::move(node));
      node = std::move(repeat);
      Take('?');  // lazy: the same texts
      if (Peek() == '+') return Fail("possessive repetitions are not supported");
    }
    return node;
  }

  // What follows an item, when it is a repetition. A { that begins no bounds is a character.
  std::optional<std::pair<int, int>> Bounds() {
    if (Take('*')) return {{0, -1}};
    if (Take('+')) return {{1, -1}};
    if (Take('?')) return {{0, 1}};
    const size_t before = position_;
    if (!Take('{')) return std::nullopt;
    const std::optional<int> min = Number();
    std::optional<int> max = min;
    if (Take(',')) max = Peek() == '}' ? std::optional<int>(-1) : Number();
    if (!min || !max || !Take('}')) {
      position_ = before;
      return std::nullopt;
    }
    if (std::max(*min, *max) > GrammarLimits::kMaxRepeats) {
      Fail("a repetition is bounded by " + std::to_string(GrammarLimits::kMaxRepeats));
    } else if (*max >= 0 && *max < *min) {
      Fail("the bounds of a repetition are the wrong way round");
    }
    return {{*min, *max}};
  }

  std::optional<int> Number() {
    const size_t before = position_;
    int number = 0;
    for (; Peek() >= '0' && Peek() <= '9'; ++position_) {
      number = std::min(number * 10 + (Peek() - '0'), 1'000'000);
    }
    return position_ == before ? std::nullopt : std::optional<int>(number);
  }

  RegexNode Character() {
    const size_t before = position_;
    if (Take('[')) return Set(Class());
    if (Take('.')) return Set(Complement({{'\n', '\n'}}));
    if (Take('\\')) return Set(Escape());
    if (Peek() == '*' || Peek() == '+' || Peek() == '?') return Fail("nothing to repeat");
    if (Bounds()) {
      position_ = before;
      return Fail("nothing to repeat");
    }
    const uint32_t c = Literal();
    return Set({{c, c}});
  }

  RegexNode Set(CodePointSet set) {
    return {.kind = RegexNode::Kind::kSet, .set = MakeCodePointSet(std::move(set))};
  }

  uint32_t Literal() {
    const Utf8Step step = DecodeUtf8(pattern_, position_);
    if (!step.valid) {
      Fail("the pattern is not UTF-8");
      return 0;
    }
    position_ += step.num_bytes;
    return step.code_point;
  }

  // Behind the backslash.
  CodePointSet Escape() {
    if (at_end()) {
      Fail("a \\ at the end");
      return {};
    }
    const char c = Peek();
    switch (c) {
      case 'd':
        return ++position_, Digits();
      case 'D':
        return ++position_, Complement(Digits());
      case 'w':
        return ++position_, WordCharacters();
      case 'W':
        return ++position_, Complement(WordCharacters());
      case 's':
        return ++position_, Spaces();
      case 'S':
        return ++position_, Complement(Spaces());
      default:
        break;
    }
    const uint32_t code_point = EscapedCharacter();
    return {{code_point, code_point}};
  }

  uint32_t EscapedCharacter() {
    const char c = Peek();
    static constexpr std::string_view kNames = "ntrfva0";
    static constexpr std::string_view kValues{"\n\t\r\f\v\a\0", 7};
    if (const size_t place = kNames.find(c); place != std::string_view::npos) {
      ++position_;
      if (c == '0' && Peek() >= '0' && Peek() <= '9') Fail("octal escapes are not supported");
      return static_cast<uint32_t>(kValues[place]);
    }
    if (Take('x')) return Take('{') ? Hex(1, 6, '}') : Hex(2, 2, '\0');
    if (Take('u')) return Take('{') ? Hex(1, 6, '}') : Hex(4, 4, '\0');
    const bool is_letter_or_digit =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (is_letter_or_digit) {
      Fail(std::string("\\") + c + " is not supported");
      return 0;
    }
    return Literal();
  }

  uint32_t Hex(int min_digits, int max_digits, char end) {
    uint32_t value = 0;
    int digits = 0;
    for (; digits < max_digits; ++digits, ++position_) {
      const char c = Peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    const bool is_whole = digits >= min_digits && (end == '\0' || Take(end));
    if (!is_whole || value > kMaxCodePoint || (value >= 0xD800 && value <= 0xDFFF)) {
      Fail("an escape of hexadecimal digits that is no character");
    }
    return value;
  }

  // Behind the [.
  CodePointSet Class() {
    const bool negated = Take('^');
    std::vector<CodePointRange> ranges;
    for (bool is_first = true; error_.ok(); is_first = false) {
      if (at_end()) {
        Fail("a [ without its ]");
        break;
      }
      if (!is_first && Take(']')) break;
      if (Peek() == '[' && pattern_.substr(position_).starts_with("[:")) {
        Fail("POSIX classes are not supported");
        break;
      }
      const CodePointSet item = ClassItem();
      const bool is_single = item.size() == 1 && item[0].first == item[0].last;
      const std::string_view rest = pattern_.substr(position_);
      if (is_single && rest.size() >= 2 && rest[0] == '-' && rest[1] != ']') {
        ++position_;
        const CodePointSet last = ClassItem();
        if (last.size() != 1 || last[0].first != last[0].last || last[0].first < item[0].first) {
          Fail("a range of a class with wrong ends");
          break;
        }
        ranges.push_back({item[0].first, last[0].first});
      } else {
        ranges.insert(ranges.end(), item.begin(), item.end());
      }
    }
    const CodePointSet set = MakeCodePointSet(std::move(ranges));
    return negated ? Complement(set) : set;
  }

  CodePointSet ClassItem() {
    if (Take('\\')) {
      if (Take('b')) return {{'\b', '\b'}};
      return Escape();
    }
    const uint32_t c = Literal();
    return {{c, c}};
  }

  const std::string_view pattern_;
  size_t position_ = 0;
  Status error_;
};

}  // namespace

StatusOr<std::vector<RegexAlternative>> ParseRegex(std::string_view pattern) {
  if (pattern.size() > GrammarLimits::kMaxTextBytes) {
    return InvalidArgument("the regular expression has " + std::to_string(pattern.size()) +
                           " bytes, at most " + std::to_string(GrammarLimits::kMaxTextBytes) +
                           " are allowed");
  }
  return Parser(pattern).Parse();
}

}  // namespace rollcall
