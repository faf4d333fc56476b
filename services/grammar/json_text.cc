#include "services/grammar/json_text.h"

#include <algorithm>
#include <map>
#include <utility>

#include "services/common/text/utf8.h"
#include "services/grammar/json_schema.h"

namespace rollcall {
namespace {

using Piece = AutomatonBuilder::Piece;

// What a string holds without an escape.
CodePointSet PlainCharacters() {
  return Complement(MakeCodePointSet({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}));
}

// The characters of a set as a JSON string has them: plain where that is allowed, else escaped.
Piece JsonCharacters(const CodePointSet& set, AutomatonBuilder* builder) {
  std::vector<Piece> forms = {Utf8Piece(Intersect(set, PlainCharacters()), builder)};
  static const std::map<uint32_t, std::string_view> names = {
      {'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
      {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
  for (const auto& [code_point, text] : names) {
    if (Contains(set, code_point)) forms.push_back(builder->Text(text));
  }
  static constexpr std::string_view kHex = "0123456789abcdef";
  for (uint32_t c = 0; c < 0x20; ++c) {
    if (names.contains(c) || !Contains(set, c)) continue;
    forms.push_back(builder->Text(std::string("\\u00") + kHex[c >> 4] + kHex[c & 0xF]));
  }
  return builder->Alternatives(forms);
}

std::string Digits(int count) { return count == 0 ? "" : "[0-9]{" + std::to_string(count) + "}"; }

std::string DigitRange(char first, char last) {
  return first == last ? std::string(1, first) : std::string("[") + first + "-" + last + "]";
}

// Expressions for the numbers in [min, max], written with the same number of digits.
void SameLength(const std::string& min, const std::string& max, const std::string& prefix,
                std::vector<std::string>* out) {
  if (min.empty()) {
    out->push_back(prefix);
    return;
  }
  const auto rest = static_cast<int>(min.size()) - 1;
  const std::string nines(static_cast<size_t>(rest), '9');
  const std::string zeros(static_cast<size_t>(rest), '0');
  if (min[0] == max[0]) {
    SameLength(min.substr(1), max.substr(1), prefix + min[0], out);
    return;
  }
  char first = min[0];
  char last = max[0];
  if (min.substr(1) != zeros) {
    SameLength(min.substr(1), nines, prefix + first, out);
    ++first;
  }
  const bool cut_above = max.substr(1) != nines;
  if (cut_above) --last;
  if (first <= last) out->push_back(prefix + DigitRange(first, last) + Digits(rest));
  if (cut_above) SameLength(zeros, max.substr(1), prefix + max[0], out);
}

}  // namespace

JsonText::JsonText(AutomatonBuilder* builder) : builder_(*builder) {
  whitespace_ = builder_.DeclareRule();
  builder_.SetBody(whitespace_,
                   Expression("[ \\t\\n\\r]{0," + std::to_string(kMaxWhitespace) + "}"));
  character_ = builder_.DeclareRule();
  const std::vector<Piece> forms = {
      Utf8Piece(PlainCharacters(), &builder_), Expression(R"(\\["\\/bfnrt])"),
      // A surrogate only as half of a pair, which is one character.
      Expression(R"(\\u(?:[0-9A-CE-Fa-ce-f][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2}|)"
                 R"([Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}))")};
  builder_.SetBody(character_, builder_.Alternatives(forms));
  DefineAnyValue();
}

void JsonText::DefineAnyValue() {
  any_value_ = builder_.DeclareRule();
  const auto member = [this] { return Sequence({String(0, -1), Between(":"), AnyValue()}); };
  const std::vector<Piece> values = {String(0, -1), Number(), Expression("true|false|null"),
                                     List("{", member, 0, -1, "}"),
                                     List("[", [this] { return AnyValue(); }, 0, -1, "]")};
  builder_.SetBody(any_value_, builder_.Alternatives(values));
}

Piece JsonText::Expression(std::string_view pattern) {
  const auto parsed = ParseRegex(pattern);
  ROLLCALL_CHECK(parsed.ok(), "expressions of our own parse");
  std::vector<Piece> pieces;
  for (const RegexAlternative& alternative : *parsed) {
    pieces.push_back(RegexPiece(alternative.node, Utf8Piece, &builder_));
  }
  return builder_.Alternatives(pieces);
}

Piece JsonText::Sequence(const std::vector<Piece>& pieces) {
  Piece whole = builder_.Empty();
  for (const Piece& piece : pieces) whole = builder_.Concatenate(whole, piece);
  return whole;
}

Piece JsonText::Between(std::string_view separator) {
  return Sequence({Whitespace(), builder_.Text(separator), Whitespace()});
}

Piece JsonText::List(std::string_view open, const std::function<Piece()>& item, int min, int max,
                     std::string_view close) {
  Piece items = builder_.Empty();
  if (max != 0) {
    const auto next = [&] { return Sequence({Between(","), item()}); };
    items = Sequence({item(), builder_.Repeat(next, std::max(min - 1, 0), max < 0 ? -1 : max - 1)});
    if (min == 0) items = builder_.Optional(items);
  }
  return Sequence({builder_.Text(open), Whitespace(), items, Whitespace(), builder_.Text(close)});
}

Piece JsonText::String(int min_length, int max_length) {
  return Sequence({builder_.Text("\""),
                   builder_.Repeat([this] { return Character(); }, min_length, max_length),
                   builder_.Text("\"")});
}

Piece JsonText::Pattern(const std::vector<RegexAlternative>& alternatives) {
  std::vector<Piece> pieces;
  for (const RegexAlternative& alternative : alternatives) {
    const auto anything = [&](bool wanted) {
      return wanted ? builder_.AnyNumber(Character()) : builder_.Empty();
    };
    pieces.push_back(Sequence({anything(!alternative.at_begin),
                               RegexPiece(alternative.node, JsonCharacters, &builder_),
                               anything(!alternative.at_end)}));
  }
  return Sequence({builder_.Text("\""), builder_.Alternatives(pieces), builder_.Text("\"")});
}

Piece JsonText::StringExcept(const std::vector<std::string>& names) {
  // A tree of the names; whoever leaves it is free, whoever stops inside is no name.
  struct Node {
    std::map<uint32_t, size_t> children;
    bool is_name = false;
    int32_t state = 0;
  };
  std::vector<Node> nodes(1);
  for (const std::string& name : names) {
    size_t at = 0;
    for (const char32_t c : CodePoints(name)) {
      const auto [it, is_new] = nodes[at].children.try_emplace(c, nodes.size());
      at = it->second;
      if (is_new) nodes.emplace_back();
    }
    nodes[at].is_name = true;
  }
  const int32_t end = builder_.AddState();
  const Piece free = builder_.AnyNumber(Utf8Piece(PlainCharacters(), &builder_));
  builder_.AddEmptyEdge(free.end, end);
  for (Node& node : nodes) node.state = builder_.AddState();
  for (const Node& node : nodes) {
    std::vector<CodePointRange> taken;
    for (const auto& [c, child] : node.children) {
      taken.push_back({c, c});
      const Piece piece =
          Utf8Piece(Intersect(MakeCodePointSet({{c, c}}), PlainCharacters()), &builder_);
      builder_.AddEmptyEdge(node.state, piece.begin);
      builder_.AddEmptyEdge(piece.end, nodes[child].state);
    }
    const CodePointSet others = Complement(MakeCodePointSet(std::move(taken)));
    const Piece leave = Utf8Piece(Intersect(others, PlainCharacters()), &builder_);
    builder_.AddEmptyEdge(node.state, leave.begin);
    builder_.AddEmptyEdge(leave.end, free.begin);
    if (!node.is_name) builder_.AddEmptyEdge(node.state, end);
  }
  return Sequence({builder_.Text("\""), {nodes[0].state, end}, builder_.Text("\"")});
}

Piece JsonText::Number() {
  return Expression("-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?");
}

std::string JsonText::DigitsBetween(int64_t min, std::optional<int64_t> max) {
  std::vector<std::string> parts;
  std::string low = std::to_string(min);
  if (!max) {
    SameLength(low, std::string(low.size(), '9'), "", &parts);
    parts.push_back("[1-9][0-9]{" + std::to_string(low.size()) + ",}");
  } else {
    const std::string high = std::to_string(*max);
    for (; low.size() < high.size(); low = "1" + std::string(low.size(), '0')) {
      SameLength(low, std::string(low.size(), '9'), "", &parts);
    }
    SameLength(low, high, "", &parts);
  }
  std::string expression;
  for (const std::string& part : parts) expression += (expression.empty() ? "" : "|") + part;
  return "(?:" + expression + ")";
}

Piece JsonText::Integer(std::optional<int64_t> min, std::optional<int64_t> max) {
  if (!min && !max) return Expression("-?(?:0|[1-9][0-9]*)");
  std::vector<Piece> pieces;
  if (!max || *max >= 0) {
    const int64_t low = std::max<int64_t>(min.value_or(0), 0);
    if (!max || low <= *max) pieces.push_back(Expression(DigitsBetween(low, max)));
  }
  if (!min || *min < 0) {
    const int64_t low = max ? std::max<int64_t>(-*max, 1) : 1;
    const std::optional<int64_t> high = min ? std::optional(-*min) : std::nullopt;
    if (!high || low <= *high) pieces.push_back(Expression("-" + DigitsBetween(low, high)));
  }
  return builder_.Alternatives(pieces);
}

// Numbers >= 0 between the bounds, after the sign.
void JsonText::AddFractions(std::string_view sign, std::optional<NumberBound> min,
                            std::optional<NumberBound> max, std::vector<Piece>* pieces) {
  const std::string prefix(sign);
  const int64_t low = min ? std::max<int64_t>(min->value, 0) : 0;
  // Whole ones, also written with zeros behind the point; -0 is left out.
  int64_t first = low;
  if (min && min->value == low && min->is_exclusive) ++first;
  if (!prefix.empty()) first = std::max<int64_t>(first, 1);
  std::optional<int64_t> last;
  if (max) last = max->is_exclusive ? max->value - 1 : max->value;
  if (!last || first <= *last) {
    pieces->push_back(Expression(prefix + DigitsBetween(first, last) + "(?:\\.0+)?"));
  }
  std::optional<int64_t> below;
  if (max) below = max->value - 1;
  if (!below || low <= *below) {
    pieces->push_back(Expression(prefix + DigitsBetween(low, below) + "\\.[0-9]*[1-9][0-9]*"));
  }
}

Piece JsonText::Number(std::optional<NumberBound> min, std::optional<NumberBound> max) {
  if (!min && !max) return Number();
  std::vector<Piece> pieces;
  if (!max || max->value >= 0) AddFractions("", min, max, &pieces);
  if (!min || min->value < 0) {
    const auto negate = [](std::optional<NumberBound> bound) {
      if (bound) bound->value = -bound->value;
      return bound;
    };
    AddFractions("-", negate(max), negate(min), &pieces);
  }
  return builder_.Alternatives(pieces);
}

}  // namespace rollcall
