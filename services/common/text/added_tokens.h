// Tokens that are found in the text as they are, before it is cut into words.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/pre_tokenizer.h"
#include "services/common/text/tokenizer.h"
#include "services/common/text/trie.h"

namespace rollcall {

struct AddedToken {
  int32_t id = 0;
  std::string content;       // UTF-8, not empty
  bool special = false;      // a control token
  bool normalized = false;   // searched for in a second pass, after the others
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows white space on its left, on its right
  bool rstrip = false;
};

// Immutable and thread-safe.
class AddedTokens {
 public:
  // What tokens with `normalized` look like in normalized text, by index; empty: as they are.
  // kInvalidArgument: two of them look the same.
  static StatusOr<AddedTokens> Create(std::vector<AddedToken> tokens,
                                      const std::vector<std::string>& normalized);
  AddedTokens() = default;

  // Which tokens are searched for: those of the text as it came, those of normalized text.
  enum class Pass { kOriginal, kNormalized };
  bool empty(Pass pass) const { return Set(pass).starts.none(); }
  // Cuts a text that begins at `base` at its added tokens, leftmost first, longest first. With
  // kAsText special tokens stay text, also where they hide another one. `text` must be UTF-8.
  // Appends to *pieces; O(length x longest token).
  void Split(Pass pass, std::string_view text, size_t base, Tokenizer::SpecialTokens special,
             std::vector<Piece>* pieces) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  struct TokenSet {
    Trie trie;                // values are indices into tokens_
    std::bitset<256> starts;  // first bytes
  };
  const TokenSet& Set(Pass pass) const { return pass == Pass::kOriginal ? original_ : normalized_; }

  std::vector<AddedToken> tokens_;
  TokenSet original_;
  TokenSet normalized_;
};

}  // namespace rollcall
