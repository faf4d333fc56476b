// A set of byte strings, each with a value, searched from the front.
// Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace rollcall {

// Immutable once built; a node is an index, the root is kRoot.
class Trie {
 public:
  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  using Entries = std::vector<std::pair<std::string_view, int32_t>>;
  Trie() : Trie(Entries{}) {}
  // Values are at least 0. Of equal keys the last one counts; the empty key is left out.
  explicit Trie(Entries entries);

  // The child of a node, kNone when there is none.
  int32_t Child(int32_t node, uint8_t byte) const {
    const size_t next = static_cast<size_t>(units_[node].base) ^ byte;
    return next < units_.size() && units_[next].parent == node ? static_cast<int32_t>(next) : kNone;
  }
  // The value of the key that ends at the node, kNone when none does.
  int32_t Value(int32_t node) const { return units_[node].value; }
  // The node that `key` leads to.
  int32_t Find(std::string_view key) const;
  // The value of the key, kNone when it is not there.
  int32_t Get(std::string_view key) const {
    const int32_t node = Find(key);
    return node == kNone ? kNone : Value(node);
  }

 private:
  struct Unit {
    int32_t base = 0;
    int32_t parent = kNone;  // kNone: free
    int32_t value = kNone;
  };
  size_t FindBase(const std::vector<uint8_t>& labels);
  void Grow(size_t size);

  std::vector<Unit> units_;
  size_t first_free_ = 1;
};

}  // namespace rollcall
