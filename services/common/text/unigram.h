// Unigram language model: the most likely way to cut a word into tokens.
// Source: Kudo 2018, arXiv 1804.10959, section 3.1; the search is Viterbi's.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/common/text/model.h"
#include "services/common/text/trie.h"

namespace rollcall {

struct UnigramOptions {
  // Token and log-probability of each id.
  std::vector<std::pair<std::string, double>> vocab;
  int32_t unk_id = -1;  // -1: none, a character without a token is an error
  bool byte_fallback = false;
  // Ids that text must not become (special tokens).
  std::vector<int32_t> forbidden_ids;
};

class Unigram final : public TokenModel {
 public:
  explicit Unigram(const UnigramOptions& options);
  std::unique_ptr<ModelScratch> NewScratch() const override;
  Status Encode(std::string_view word, ModelScratch* scratch,
                std::vector<ModelToken>* tokens) const override;

 private:
  Trie trie_;
  std::vector<double> scores_;  // by id
  double unk_score_ = 0;
  int32_t unk_id_;
  // Tokens <0x00> to <0xFF>, empty without byte fallback; -1 where one is missing.
  std::vector<int32_t> byte_ids_;
};

}  // namespace rollcall
