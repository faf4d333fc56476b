// Byte-pair encoding of one word.
// Source: Sennrich et al. 2016, arXiv 1508.07909; byte level: Radford et al. 2019 (GPT-2); byte
// fallback: Kudo and Richardson 2018, arXiv 1808.06226.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/flat_map.h"
#include "services/common/text/model.h"
#include "services/common/text/trie.h"

namespace rollcall {

struct BpeOptions {
  // Id of each token as it is written in the file.
  std::unordered_map<std::string, int32_t> vocab;
  // In order of rank: the tokens whose concatenation is a token.
  std::vector<std::pair<std::string, std::string>> merges;
  // What a word is made of at first. kBytes: the word is bytes, and the tokens are written in the
  // byte-level alphabet. The result is that of writing the word in that alphabet, too.
  enum class Symbols { kCharacters, kBytes };
  Symbols symbols = Symbols::kCharacters;
  // A word that is a token becomes that token without merging.
  bool ignore_merges = false;
  // A character without a token becomes the tokens of its bytes, <0x0A>.
  bool byte_fallback = false;
  // Neighbouring unknown characters become one unknown token.
  bool fuse_unk = false;
  int32_t unk_id = -1;  // -1: what has no token is left out
  // In front of characters but the first; behind the last one. kCharacters only.
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  // Ids that Encode must not make (special tokens that are also in the vocabulary), unless they are
  // the unknown token or a single symbol: merges into them are left out.
  std::vector<int32_t> forbidden_ids;
};

class Bpe final : public TokenModel {
 public:
  // kInvalidArgument: a merge of or into something that is no token.
  static StatusOr<Bpe> Create(BpeOptions options);

  std::unique_ptr<ModelScratch> NewScratch() const override;
  // Applies the merge of lowest rank, leftmost first, until none applies. O(n log n).
  Status Encode(std::string_view word, ModelScratch* scratch,
                std::vector<ModelToken>* tokens) const override;

  // Length of a part at the front of the text that can be encoded alone: no merge reaches over its
  // end. The whole text where that is not known.
  size_t IndependentPrefix(std::string_view text) const;

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t id = 0;
  };
  // Ids of one character by where it stands in the word.
  enum Place { kInside = 0, kFirst = 1, kLast = 2, kAlone = 3 };

  Bpe() = default;
  Status AddMerges(const BpeOptions& options);
  void AddCharacters(const BpeOptions& options);
  void AddJunctions(const BpeOptions& options);
  int32_t CharacterId(char32_t c, Place place) const;
  void FirstSymbols(std::string_view word, std::vector<ModelToken>* symbols) const;
  const Merge* FindMerge(int32_t left, int32_t right) const {
    return merges_.Find((static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
                        static_cast<uint32_t>(right));
  }
  void MergeShort(std::vector<ModelToken>* symbols) const;
  void MergeLong(std::vector<ModelToken>* symbols, ModelScratch* scratch) const;
  static size_t JunctionBit(char32_t left, char32_t right);

  bool bytes_ = false;
  bool fuse_unk_ = false;
  int32_t unk_id_ = -1;
  std::string prefix_;
  std::string suffix_;
  FlatMap<Merge> merges_;
  std::array<int32_t, 256> byte_ids_{};                  // kBytes
  std::array<std::array<int32_t, 128>, 4> ascii_ids_{};  // kCharacters, by place
  FlatMap<int32_t> character_ids_;                       // code point and place
  std::vector<int32_t> fallback_ids_;                    // of bytes; empty without byte fallback
  bool has_words_ = false;
  Trie words_;  // with ignore_merges: words that are tokens
  // Pairs of characters that some merge brings together (Bloom filter); empty where unknown.
  std::vector<uint64_t> junctions_;
};

}  // namespace rollcall
