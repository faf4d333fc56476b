// WordPiece: the longest token first, from the left.
// Source: Wu et al. 2016, arXiv 1609.08144; as in BERT.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/common/text/model.h"
#include "services/common/text/trie.h"

namespace rollcall {

struct WordPieceOptions {
  std::vector<std::pair<std::string, int32_t>> vocab;
  std::string continuing_subword_prefix = "##";
  int32_t unk_id = -1;                    // -1: none, a word without tokens is an error
  size_t max_input_chars_per_word = 100;  // longer words are unknown
};

class WordPiece final : public TokenModel {
 public:
  explicit WordPiece(const WordPieceOptions& options);
  std::unique_ptr<ModelScratch> NewScratch() const override {
    return std::make_unique<ModelScratch>();
  }
  Status Encode(std::string_view word, ModelScratch* scratch,
                std::vector<ModelToken>* tokens) const override;

 private:
  Trie trie_;
  int32_t continuing_node_ = Trie::kNone;  // where the prefix leads to
  int32_t unk_id_;
  size_t max_chars_;
};

// Every word is a token or unknown.
class WordLevel final : public TokenModel {
 public:
  WordLevel(const std::vector<std::pair<std::string, int32_t>>& vocab, int32_t unk_id);
  std::unique_ptr<ModelScratch> NewScratch() const override {
    return std::make_unique<ModelScratch>();
  }
  Status Encode(std::string_view word, ModelScratch* scratch,
                std::vector<ModelToken>* tokens) const override;

 private:
  Trie trie_;
  int32_t unk_id_;
};

}  // namespace rollcall
