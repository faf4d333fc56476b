#include "trainer/learner/reference_cache.h"

#include <cstring>
#include <span>
#include <utility>

namespace rollcall {
namespace {

Hash128 Key(const TrainSequence& sequence) {
  const size_t ids = sequence.token_ids.size() * sizeof(int32_t);
  std::vector<std::byte> bytes(ids + sequence.trains.size());
  std::memcpy(bytes.data(), sequence.token_ids.data(), ids);
  std::memcpy(bytes.data() + ids, sequence.trains.data(), sequence.trains.size());
  return HashBytes128(bytes);
}

}  // namespace

const std::vector<double>* ReferenceCache::Find(const TrainSequence& sequence) const {
  const auto found = entries_.find(Key(sequence));
  return found == entries_.end() ? nullptr : &found->second;
}

void ReferenceCache::Put(const TrainSequence& sequence, std::vector<double> logprobs) {
  const auto size = static_cast<int64_t>(logprobs.size());
  if (num_tokens_ + size > max_tokens_) {
    entries_.clear();
    num_tokens_ = 0;
  }
  if (size > max_tokens_) return;
  if (entries_.emplace(Key(sequence), std::move(logprobs)).second) num_tokens_ += size;
}

}  // namespace rollcall
