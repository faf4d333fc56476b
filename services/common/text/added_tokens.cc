#include "services/common/text/added_tokens.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// Start of the code point that ends at `end` > 0.
size_t PreviousCodePoint(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  const auto is_word = [&](size_t offset) {
    return CharTable::Get().Has(DecodeUtf8(text, offset).code_point, kWord);
  };
  return (begin > 0 && is_word(PreviousCodePoint(text, begin))) ||
         (end < text.size() && is_word(end));
}

}  // namespace

StatusOr<AddedTokens> AddedTokens::Create(std::vector<AddedToken> tokens,
                                          const std::vector<std::string>& normalized) {
  AddedTokens added;
  std::vector<std::pair<std::string_view, int32_t>> originals;
  std::vector<std::pair<std::string_view, int32_t>> others;
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string_view content = tokens[i].content;
    if (!tokens[i].normalized) {
      originals.emplace_back(content, static_cast<int32_t>(i));
    } else {
      if (!normalized.empty()) content = normalized[i];
      if (!seen.insert(content).second) {
        return InvalidArgument("added_tokens[" + std::to_string(i) + "]: '" + tokens[i].content +
                               "' is the same as another one when normalized");
      }
      others.emplace_back(content, static_cast<int32_t>(i));
    }
  }
  const auto make = [](std::vector<std::pair<std::string_view, int32_t>> entries) {
    TokenSet set;
    for (const auto& [content, index] : entries) {
      if (!content.empty()) set.starts.set(static_cast<uint8_t>(content.front()));
    }
    set.trie = Trie(std::move(entries));
    return set;
  };
  added.original_ = make(std::move(originals));
  added.normalized_ = make(std::move(others));
  added.tokens_ = std::move(tokens);
  return added;
}

void AddedTokens::Split(Pass pass, std::string_view text, size_t base,
                        Tokenizer::SpecialTokens special, std::vector<Piece>* pieces) const {
  const TokenSet& set = Set(pass);
  size_t plain_begin = 0;
  const auto put = [&](size_t begin, size_t end, int32_t id) {
    pieces->push_back({static_cast<uint32_t>(base + begin), static_cast<uint32_t>(base + end), id});
  };
  size_t offset = 0;
  while (offset < text.size() && set.starts.any()) {
    if (!set.starts[static_cast<uint8_t>(text[offset])]) {
      ++offset;
      continue;
    }
    int32_t index = Trie::kNone;
    size_t begin = offset;
    size_t end = offset;
    int32_t node = Trie::kRoot;
    for (size_t i = offset; i < text.size(); ++i) {
      node = set.trie.Child(node, static_cast<uint8_t>(text[i]));
      if (node == Trie::kNone) break;
      if (set.trie.Value(node) != Trie::kNone) {
        index = set.trie.Value(node);
        end = i + 1;
      }
    }
    if (index == Trie::kNone) {
      ++offset;
      continue;
    }
    offset = end;  // what is declined below is passed over whole, as the reference does
    const AddedToken& token = tokens_[index];
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
    if (plain_begin < begin) put(plain_begin, begin, -1);
    put(begin, end, token.id);
    plain_begin = end;
  }
  if (plain_begin < text.size()) put(plain_begin, text.size(), -1);
}

}  // namespace rollcall
