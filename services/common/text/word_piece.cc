#include "services/common/text/word_piece.h"

namespace rollcall {
namespace {

Trie MakeTrie(const std::vector<std::pair<std::string, int32_t>>& vocab) {
  std::vector<std::pair<std::string_view, int32_t>> entries(vocab.begin(), vocab.end());
  return Trie(std::move(entries));
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

Status Unknown(std::string_view word, int32_t unk_id, std::vector<ModelToken>* tokens) {
  if (unk_id < 0) {
    return InvalidArgument("the word '" + std::string(word.substr(0, 64)) +
                           "' has no token, and the vocabulary has no unknown token");
  }
  tokens->push_back({unk_id, 0, static_cast<uint32_t>(word.size())});
  return OkStatus();
}

}  // namespace

WordPiece::WordPiece(const WordPieceOptions& options)
    : trie_(MakeTrie(options.vocab)),
      continuing_node_(trie_.Find(options.continuing_subword_prefix)),
      unk_id_(options.unk_id),
      max_chars_(options.max_input_chars_per_word) {}

Status WordPiece::Encode(std::string_view word, ModelScratch* /*scratch*/,
                         std::vector<ModelToken>* tokens) const {
  if (word.size() > max_chars_ && CountCharacters(word) > max_chars_) {
    return Unknown(word, unk_id_, tokens);
  }
  const size_t first = tokens->size();
  size_t begin = 0;
  while (begin < word.size()) {
    int32_t node = begin == 0 ? Trie::kRoot : continuing_node_;
    int32_t id = Trie::kNone;
    size_t end = begin;
    for (size_t i = begin; i < word.size() && node != Trie::kNone; ++i) {
      node = trie_.Child(node, static_cast<uint8_t>(word[i]));
      if (node != Trie::kNone && trie_.Value(node) != Trie::kNone) {
        id = trie_.Value(node);
        end = i + 1;
      }
    }
    if (id == Trie::kNone) {
      tokens->resize(first);
      return Unknown(word, unk_id_, tokens);
    }
    tokens->push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    begin = end;
  }
  return OkStatus();
}

WordLevel::WordLevel(const std::vector<std::pair<std::string, int32_t>>& vocab, int32_t unk_id)
    : trie_(MakeTrie(vocab)), unk_id_(unk_id) {}

Status WordLevel::Encode(std::string_view word, ModelScratch* /*scratch*/,
                         std::vector<ModelToken>* tokens) const {
  const int32_t id = trie_.Get(word);
  if (id == Trie::kNone) return Unknown(word, unk_id_, tokens);
  tokens->push_back({id, 0, static_cast<uint32_t>(word.size())});
  return OkStatus();
}

}  // namespace rollcall
