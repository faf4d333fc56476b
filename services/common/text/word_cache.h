// What short words become, for one thread. Bounded: a new word takes the place of an old one.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "services/common/text/model.h"

namespace rollcall {

class WordCache {
 public:
  WordCache() : slots_(kNumSlots) {}

  // Null when the word is not there. Valid until the next Put().
  const int32_t* Find(std::string_view word, size_t* count) const {
    if (word.size() > kMaxBytes) return nullptr;
    const Key key = MakeKey(word);
    const Slot& slot = slots_[Place(key)];
    if (slot.num_bytes != word.size() || slot.key != key) return nullptr;
    *count = slot.count;
    return slot.ids.data();
  }
  // Does nothing with a word that is empty or long, or with many tokens.
  void Put(std::string_view word, std::span<const ModelToken> tokens) {
    if (word.empty() || word.size() > kMaxBytes || tokens.size() > kMaxTokens) return;
    const Key key = MakeKey(word);
    Slot& slot = slots_[Place(key)];
    slot.key = key;
    slot.num_bytes = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) slot.ids[i] = tokens[i].id;
  }

 private:
  static constexpr size_t kNumSlots = size_t{1} << 15;
  static constexpr size_t kMaxBytes = 24;
  static constexpr size_t kMaxTokens = 9;
  using Key = std::array<uint64_t, 3>;
  struct Slot {
    Key key{};
    std::array<int32_t, kMaxTokens> ids{};
    uint8_t num_bytes = 0;  // 0: free
    uint8_t count = 0;
  };
  static_assert(sizeof(Slot) == 64);

  static Key MakeKey(std::string_view word) {
    Key key{};
    if (word.size() <= 8) {
      std::memcpy(key.data(), word.data(), word.size());
    } else {
      // Two reads that overlap are cheaper than one of any length.
      std::memcpy(&key[0], word.data(), 8);
      if (word.size() <= 16) {
        std::memcpy(&key[1], word.data() + word.size() - 8, 8);
      } else {
        std::memcpy(&key[1], word.data() + 8, 8);
        std::memcpy(&key[2], word.data() + word.size() - 8, 8);
      }
    }
    return key;
  }
  static size_t Place(const Key& key) {
    uint64_t hash = key[0] * 0x9E3779B97F4A7C15ull;
    hash = (hash ^ (hash >> 32) ^ key[1]) * 0xC2B2AE3D27D4EB4Full;
    hash = (hash ^ (hash >> 29) ^ key[2]) * 0x9E3779B97F4A7C15ull;
    return static_cast<size_t>(hash >> 49);  // 15 bits
  }

  std::vector<Slot> slots_;
};

}  // namespace rollcall
