#include "services/grammar/token_trie.h"

#include <algorithm>

namespace rollcall {

TokenTrie::TokenTrie(std::span<const std::string> token_bytes)
    : token_bytes_(token_bytes.begin(), token_bytes.end()) {
  for (size_t t = 0; t < token_bytes_.size(); ++t) {
    const size_t size = token_bytes_[t].size();
    if (size > 0 && size <= kMaxTokenBytes) ids_.push_back(static_cast<int32_t>(t));
  }
  std::sort(ids_.begin(), ids_.end(), [this](int32_t a, int32_t b) {
    const int order = bytes(a).compare(bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  // Each token opens the nodes behind what it shares with the one before.
  std::vector<size_t> path;  // open nodes, by depth
  const auto close_to = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    }
  };
  const std::string* before = nullptr;
  for (size_t i = 0; i < ids_.size(); ++i) {
    const std::string& text = bytes(ids_[i]);
    size_t shared = 0;
    if (before != nullptr) {
      const size_t most = std::min(before->size(), text.size());
      while (shared < most && (*before)[shared] == text[shared]) ++shared;
    }
    close_to(shared);
    for (size_t d = shared; d < text.size(); ++d) {
      path.push_back(nodes_.size());
      nodes_.push_back({.byte = static_cast<uint8_t>(text[d]),
                        .depth = static_cast<uint16_t>(d + 1),
                        .first_id = static_cast<uint32_t>(i)});
    }
    ++nodes_[path.back()].num_ids;
    before = &text;
  }
  close_to(0);
}

}  // namespace rollcall
