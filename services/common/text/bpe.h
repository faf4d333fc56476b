// Byte-pair encoding of one word over byte-level tokens.
// Source: Sennrich et al. 2016, arXiv 1508.07909; byte level: Radford et al. 2019 (GPT-2).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct BpeOptions {
  // Token of each id as raw bytes; ids without a token are absent.
  std::unordered_map<std::string, int32_t> vocab;
  // In order of rank: the strings whose concatenation is a token.
  std::vector<std::pair<std::string, std::string>> merges;
  // A word that is a token becomes that token without merging.
  bool ignore_merges = false;
  // Ids that Encode must never produce (special tokens that are also in the vocabulary).
  std::vector<int32_t> forbidden_ids;
};

// Immutable and thread-safe.
class Bpe {
 public:
  // kInvalidArgument: a byte without a token, a merge of or into something that is no token, or
  // into a forbidden id.
  static StatusOr<Bpe> Create(BpeOptions options);

  // Appends the ids of the word. Applies the merge of lowest rank, leftmost first, until none
  // applies. O(n log n).
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

  // Length of a token that Encode() makes.
  size_t NumBytes(int32_t id) const { return num_bytes_[id]; }

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t id = 0;
  };
  Bpe() = default;

  static uint64_t PairKey(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }

  struct PairHash {
    size_t operator()(uint64_t key) const {
      key ^= key >> 32;
      key *= 0x9E3779B97F4A7C15ull;
      return key ^ (key >> 29);
    }
  };

  std::array<int32_t, 256> byte_ids_{};
  std::unordered_map<uint64_t, Merge, PairHash> merges_;
  // Filled with ignore_merges only: words that are tokens.
  std::unordered_map<std::string, int32_t> words_;
  std::vector<uint32_t> num_bytes_;  // by id
};

}  // namespace rollcall
