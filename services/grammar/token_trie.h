// The bytes of a vocabulary's tokens as a tree, laid out for one walk over it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace rollcall {

// Immutable and thread-safe; shared by all grammars of a vocabulary.
class TokenTrie {
 public:
  // Nodes in depth-first order.
  struct Node {
    uint8_t byte = 0;       // of the edge that leads here
    uint16_t depth = 0;     // bytes from the root
    uint32_t end = 0;       // node behind the last descendant
    uint32_t first_id = 0;  // tokens that end here: ids()[first_id .. first_id + num_ids)
    uint32_t num_ids = 0;
  };

  static constexpr size_t kMaxTokenBytes = 1024;

  // token_bytes[t] is what token t adds to the text. Tokens that add nothing, or more than
  // kMaxTokenBytes, are left out: no grammar allows them.
  explicit TokenTrie(std::span<const std::string> token_bytes);

  std::span<const Node> nodes() const { return nodes_; }
  std::span<const int32_t> ids() const { return ids_; }
  int64_t vocab_size() const { return static_cast<int64_t>(token_bytes_.size()); }
  const std::string& bytes(int32_t token) const { return token_bytes_[static_cast<size_t>(token)]; }

 private:
  std::vector<std::string> token_bytes_;
  std::vector<Node> nodes_;
  std::vector<int32_t> ids_;
};

}  // namespace rollcall
