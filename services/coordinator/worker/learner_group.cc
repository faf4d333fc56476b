#include "services/coordinator/worker/learner_group.h"

#include <charconv>
#include <utility>

namespace rollcall::coordinator {
namespace {

constexpr size_t kMaxKeyBytes = 1024;
constexpr size_t kMaxValueBytes = 64 << 10;
constexpr size_t kMaxStoreBytes = 64 << 20;

}  // namespace

void LearnerGroup::Form(std::vector<GroupRank> ranks, int64_t resume_step) {
  ROLLCALL_CHECK(!ranks.empty() && ranks_.empty(), "a group forms from waiting");
  ++epoch_;
  ranks_ = std::move(ranks);
  resume_step_ = resume_step;
  last_step_ = resume_step;
  fence_reason_.clear();
}

void LearnerGroup::Fence(const std::string& reason) {
  fence_reason_ = reason;
  ranks_.clear();
  store_.clear();
  store_bytes_ = 0;
}

Status LearnerGroup::Check(const v1::GroupMember& member) {
  if (!active()) return Aborted("fenced: " + fence_reason_);
  if (member.epoch() != epoch_) {
    return Aborted("fenced: epoch " + std::to_string(member.epoch()) + " is over, " +
                   std::to_string(epoch_) + " runs");
  }
  if (member.rank() < 0 || static_cast<size_t>(member.rank()) >= ranks_.size() ||
      rank(member.rank()).worker_id != member.worker_id()) {
    return Aborted("fenced: rank " + std::to_string(member.rank()) +
                   " belongs to another process in epoch " + std::to_string(epoch_));
  }
  rank(member.rank()).heard = true;
  return OkStatus();
}

std::optional<int32_t> LearnerGroup::RankOf(const std::string& worker_id) const {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (ranks_[i].worker_id == worker_id && !ranks_[i].finished) return static_cast<int32_t>(i);
  }
  return std::nullopt;
}

Status LearnerGroup::StoreSet(const std::string& key, std::string value) {
  if (key.empty() || key.size() > kMaxKeyBytes) {
    return InvalidArgument("key: 1 to 1024 bytes are needed, got " + std::to_string(key.size()));
  }
  if (value.size() > kMaxValueBytes) {
    return InvalidArgument("value: at most 64 KiB, got " + std::to_string(value.size()) + " bytes");
  }
  const auto old = store_.find(key);
  const size_t freed = old == store_.end() ? 0 : key.size() + old->second.size();
  const size_t bytes = store_bytes_ - freed + key.size() + value.size();
  if (bytes > kMaxStoreBytes) return ResourceExhausted("the rendezvous store of the group is full");
  store_bytes_ = bytes;
  store_[key] = std::move(value);
  return OkStatus();
}

const std::string* LearnerGroup::StoreGet(const std::string& key) const {
  const auto found = store_.find(key);
  return found == store_.end() ? nullptr : &found->second;
}

StatusOr<int64_t> LearnerGroup::StoreAdd(const std::string& key, int64_t amount) {
  int64_t value = 0;
  if (const std::string* text = StoreGet(key)) {
    const auto [rest, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || rest != text->data() + text->size()) {
      return InvalidArgument("key '" + key + "' holds no number");
    }
  }
  if (__builtin_add_overflow(value, amount, &value)) {
    return InvalidArgument("key '" + key + "' would overflow");
  }
  ROLLCALL_RETURN_IF_ERROR(StoreSet(key, std::to_string(value)));
  return value;
}

}  // namespace rollcall::coordinator
