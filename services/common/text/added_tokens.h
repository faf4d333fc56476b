// Tokens that are found in the text as they are, before it is cut into words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/regex.h"
#include "services/common/text/tokenizer.h"

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

// A piece of the text: a token, or plain text (id -1).
struct TextPiece {
  int32_t id = -1;
  std::string_view text;
};

// Immutable and thread-safe.
class AddedTokens {
 public:
  static StatusOr<AddedTokens> Create(std::vector<AddedToken> tokens);
  AddedTokens() = default;

  // Cuts the text at its added tokens, leftmost first, longest first. With kAsText special tokens
  // stay text, also where they hide another one. The pieces view `text`, which must be UTF-8.
  // Appends to *pieces; O(length x longest token).
  void Split(std::string_view text, Tokenizer::SpecialTokens special,
             std::vector<TextPiece>* pieces) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  // A trie node is an index into nodes; edges of a node are sorted by byte.
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> edges;
    int32_t token = -1;  // index into tokens_
  };
  struct Trie {
    std::vector<Node> nodes = std::vector<Node>(1);
    void Insert(std::string_view content, int32_t token);
    int32_t Child(int32_t node, uint8_t byte) const;
    // The longest token that begins at `offset`, -1 when none does.
    int32_t LongestAt(std::string_view text, size_t offset) const;
  };
  bool TouchesWord(std::string_view text, size_t begin, size_t end) const;
  void SplitPass(const Trie& trie, std::string_view text, Tokenizer::SpecialTokens special,
                 std::vector<TextPiece>* pieces) const;

  std::vector<AddedToken> tokens_;
  std::optional<Regex> word_char_;  // set when a token is single_word
  Trie raw_;
  Trie normalized_;
};

}  // namespace rollcall
