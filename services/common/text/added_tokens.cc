#include "services/common/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// Start of the code point that ends at `end` > 0.
size_t PreviousCodePoint(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

// \w of the reference's regex library.
constexpr std::string_view kWordChar = "\\A[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";

}  // namespace

void AddedTokens::Trie::Insert(std::string_view content, int32_t token) {
  int32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t child = Child(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes.size());
      nodes.emplace_back();
      auto& edges = nodes[node].edges;
      edges.insert(std::lower_bound(edges.begin(), edges.end(), std::pair(byte, 0)),
                   std::pair(byte, child));
    }
    node = child;
  }
  nodes[node].token = token;
}

int32_t AddedTokens::Trie::Child(int32_t node, uint8_t byte) const {
  const auto& edges = nodes[node].edges;
  const auto it = std::lower_bound(edges.begin(), edges.end(), std::pair(byte, 0));
  return it != edges.end() && it->first == byte ? it->second : -1;
}

int32_t AddedTokens::Trie::LongestAt(std::string_view text, size_t offset) const {
  int32_t best = -1;
  int32_t node = 0;
  for (size_t i = offset; i < text.size(); ++i) {
    node = Child(node, static_cast<uint8_t>(text[i]));
    if (node < 0) break;
    if (nodes[node].token >= 0) best = nodes[node].token;
  }
  return best;
}

StatusOr<AddedTokens> AddedTokens::Create(std::vector<AddedToken> tokens) {
  AddedTokens added;
  if (std::any_of(tokens.begin(), tokens.end(), [](const auto& t) { return t.single_word; })) {
    ROLLCALL_ASSIGN_OR_RETURN(added.word_char_, Regex::Compile(kWordChar, {}));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    Trie& trie = tokens[i].normalized ? added.normalized_ : added.raw_;
    trie.Insert(tokens[i].content, static_cast<int32_t>(i));
  }
  added.tokens_ = std::move(tokens);
  return added;
}

bool AddedTokens::TouchesWord(std::string_view text, size_t begin, size_t end) const {
  RegexMatcher matcher(*word_char_);
  const auto is_word_char = [&](std::string_view character) {
    const StatusOr<bool> found = matcher.Find(character, 0);
    return found.ok() && *found;
  };
  return (begin > 0 && is_word_char(text.substr(PreviousCodePoint(text, begin)))) ||
         (end < text.size() && is_word_char(text.substr(end)));
}

void AddedTokens::Split(std::string_view text, Tokenizer::SpecialTokens special,
                        std::vector<TextPiece>* pieces) const {
  std::vector<TextPiece> first;
  SplitPass(raw_, text, special, &first);
  for (const TextPiece& piece : first) {
    if (piece.id >= 0) {
      pieces->push_back(piece);
    } else {
      SplitPass(normalized_, piece.text, special, pieces);
    }
  }
}

void AddedTokens::SplitPass(const Trie& trie, std::string_view text,
                            Tokenizer::SpecialTokens special,
                            std::vector<TextPiece>* pieces) const {
  size_t plain_begin = 0;
  const auto flush = [&](size_t end) {
    if (plain_begin < end) pieces->push_back({-1, text.substr(plain_begin, end - plain_begin)});
  };
  size_t offset = 0;
  while (offset < text.size() && trie.nodes.size() > 1) {
    const int32_t index = trie.LongestAt(text, offset);
    if (index < 0) {
      ++offset;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = offset;
    size_t end = offset + token.content.size();
    offset = end;  // what is declined below is passed over whole, as the reference does
    if (token.special && special == Tokenizer::SpecialTokens::kAsText) continue;
    if (token.single_word && TouchesWord(text, begin, end)) continue;
    if (token.lstrip) {
      while (begin > plain_begin) {
        const size_t previous = PreviousCodePoint(text, begin);
        if (!IsWhiteSpace(DecodeUtf8(text, previous).code_point)) break;
        begin = previous;
      }
      begin = std::max(begin, plain_begin);
    }
    if (token.rstrip) {
      while (end < text.size()) {
        const Utf8Step step = DecodeUtf8(text, end);
        if (!IsWhiteSpace(step.code_point)) break;
        end += step.num_bytes;
      }
    }
    flush(begin);
    pieces->push_back({token.id, text.substr(begin, end - begin)});
    plain_begin = end;
  }
  flush(text.size());
}

}  // namespace rollcall
