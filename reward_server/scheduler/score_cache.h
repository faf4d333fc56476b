// Scores by content, least recently used out first, bounded in bytes. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>

#include "reward_server/scoring/types.h"
#include "services/common/storage/files.h"

namespace rollcall {

struct Hash128Hasher {
  size_t operator()(const Hash128& hash) const {
    size_t first = 0;
    std::memcpy(&first, hash.data(), sizeof(first));
    return first;
  }
};

class ScoreCache {
 public:
  explicit ScoreCache(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  // Makes the entry the most recently used one.
  std::optional<ScoreResult> Get(const Hash128& key);
  // What is larger than the whole cache is not kept. An infrastructure failure may be gone at the
  // next try: putting one is a broken invariant.
  void Put(const Hash128& key, const ScoreResult& result);

  uint64_t size_bytes() const { return size_bytes_; }
  size_t num_entries() const { return entries_.size(); }

 private:
  using Entry = std::pair<Hash128, ScoreResult>;
  static uint64_t SizeOf(const ScoreResult& result);

  const uint64_t max_bytes_;
  uint64_t size_bytes_ = 0;
  std::list<Entry> by_use_;  // most recent first
  std::unordered_map<Hash128, std::list<Entry>::iterator, Hash128Hasher> entries_;
};

}  // namespace rollcall
