// Which tokens the law kept, for every token of a completion, in few bytes.
//
// The codes of the tokens follow each other. A code is a head, a number in LEB128 whose low two
// bits say what its rest counts:
//   0  the whole vocabulary; the rest is 0
//   1  so many kept ids follow               2  so many ids that are not kept follow
//   3  the same set as that many tokens before in the same completion
// Ids ascend and are LEB128 numbers: the first id, then each one's distance from the id before,
// less one. The writer takes the shortest code.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// Codes of one completion take at most this; a law that keeps more of a large vocabulary is for
// top_k to bound.
inline constexpr size_t kMaxKeptSetBytes = size_t{1} << 20;

// Writes the sets of one completion. Not thread-safe.
class KeptSetWriter {
 public:
  // Appends the code of the next token's set to `codes`, which holds all codes so far.
  //   kept  ascending ids below vocab_size; empty: the whole vocabulary
  // kResourceExhausted: more than kMaxKeptSetBytes.
  Status Append(std::span<const int32_t> kept, int64_t vocab_size, std::string* codes);

 private:
  struct Written {
    int64_t number = 0;  // of the token
    size_t begin = 0;    // of the code
    size_t size = 0;
  };
  int64_t num_written_ = 0;
  std::unordered_map<uint64_t, Written> by_hash_;
  std::string code_;
};

// The sets of one completion, checked. Immutable and thread-safe.
class KeptSets {
 public:
  // kInvalidArgument: not the codes of `num_tokens` sets of ids below vocab_size, each with a
  // token. O(bytes).
  static StatusOr<KeptSets> Parse(std::string codes, int64_t num_tokens, int64_t vocab_size);

  int64_t num_tokens() const { return static_cast<int64_t>(begins_.size()); }
  bool IsAll(int64_t number) const;
  // O(size of the code).
  bool Contains(int64_t number, int32_t token) const;
  // The ids in ascending order; not of a set that is the whole vocabulary.
  void Decode(int64_t number, std::vector<int32_t>* kept) const;

 private:
  std::string codes_;
  int64_t vocab_size_ = 0;
  std::vector<uint32_t> begins_;  // of the code of each token's set, repeats resolved
};

// OK when `codes` are those of `num_tokens` sets, whatever the ids. For who passes them on only.
Status CheckKeptSets(std::string_view codes, int64_t num_tokens, int64_t vocab_size);

}  // namespace rollcall
