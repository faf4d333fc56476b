#include "services/common/text/trie.h"

#include <algorithm>

namespace rollcall {
namespace {

constexpr size_t kBlock = 256;
// Free places that are tried before a new block is taken.
constexpr int kMaxTries = 64;
// Neither free nor anybody's child.
constexpr int32_t kRootParent = -2;

}  // namespace

Trie::Trie(Entries entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Grow(kBlock);
  units_[kRoot].parent = kRootParent;
  // Entries [begin, end) share the first `depth` bytes, which lead to `node`.
  struct Range {
    size_t begin;
    size_t end;
    size_t depth;
    int32_t node;
  };
  std::vector<Range> stack = {{0, entries.size(), 0, kRoot}};
  std::vector<uint8_t> labels;
  std::vector<size_t> starts;
  while (!stack.empty()) {
    Range range = stack.back();
    stack.pop_back();
    while (range.begin < range.end && entries[range.begin].first.size() == range.depth) {
      if (range.depth > 0) units_[range.node].value = entries[range.begin].second;
      ++range.begin;
    }
    if (range.begin == range.end) continue;
    labels.clear();
    starts.clear();
    for (size_t i = range.begin; i < range.end; ++i) {
      const auto byte = static_cast<uint8_t>(entries[i].first[range.depth]);
      if (labels.empty() || labels.back() != byte) {
        labels.push_back(byte);
        starts.push_back(i);
      }
    }
    starts.push_back(range.end);
    const size_t base = FindBase(labels);
    units_[range.node].base = static_cast<int32_t>(base);
    for (size_t i = 0; i < labels.size(); ++i) {
      const size_t child = base ^ labels[i];
      units_[child].parent = range.node;
      stack.push_back({starts[i], starts[i + 1], range.depth + 1, static_cast<int32_t>(child)});
    }
  }
}

void Trie::Grow(size_t size) {
  if (units_.size() < size) units_.resize((size + kBlock - 1) / kBlock * kBlock);
}

size_t Trie::FindBase(const std::vector<uint8_t>& labels) {
  while (first_free_ < units_.size() && units_[first_free_].parent != kNone) ++first_free_;
  int tries = 0;
  for (size_t place = first_free_; place < units_.size() && tries < kMaxTries; ++place) {
    if (units_[place].parent != kNone) continue;
    ++tries;
    const size_t base = place ^ labels.front();
    const bool fits = std::all_of(labels.begin(), labels.end(), [&](uint8_t label) {
      const size_t child = base ^ label;
      return child >= units_.size() || units_[child].parent == kNone;
    });
    // Within a block XOR stays within the block: the array need not grow.
    if (fits) return base;
  }
  if (tries == kMaxTries) first_free_ += kMaxTries / 4;  // crowded: leave some of it behind
  const size_t base = units_.size();
  Grow(units_.size() + kBlock);
  return base;
}

int32_t Trie::Find(std::string_view key) const {
  int32_t node = kRoot;
  for (const char c : key) {
    node = Child(node, static_cast<uint8_t>(c));
    if (node == kNone) break;
  }
  return node;
}

}  // namespace rollcall
