#include "reward_server/scheduler/score_cache.h"

#include "services/base/status/status.h"

namespace rollcall {
namespace {

// List node, hash node and bucket, about.
constexpr uint64_t kEntryOverheadBytes = 96;

}  // namespace

uint64_t ScoreCache::SizeOf(const ScoreResult& result) {
  return sizeof(Entry) + kEntryOverheadBytes + result.failure().reason.size() +
         result.failure().message.size();
}

std::optional<ScoreResult> ScoreCache::Get(const Hash128& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return std::nullopt;
  by_use_.splice(by_use_.begin(), by_use_, it->second);
  return it->second->second;
}

void ScoreCache::Put(const Hash128& key, const ScoreResult& result) {
  ROLLCALL_CHECK(!result.is_infrastructure_failure(), "an infrastructure failure is not cached");
  const uint64_t size = SizeOf(result);
  if (entries_.contains(key) || size > max_bytes_) return;
  while (size_bytes_ + size > max_bytes_) {
    size_bytes_ -= SizeOf(by_use_.back().second);
    entries_.erase(by_use_.back().first);
    by_use_.pop_back();
  }
  by_use_.emplace_front(key, result);
  entries_.emplace(key, by_use_.begin());
  size_bytes_ += size;
}

}  // namespace rollcall
