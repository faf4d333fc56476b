#include "services/cli/supervisor/restart_policy.h"

#include <algorithm>

namespace rollcall {

void RestartPolicy::Started(absl::Time now) { started_at_ = now; }

std::optional<absl::Time> RestartPolicy::Ended(absl::Time now) {
  if (now - started_at_ >= options_.reset_after || next_delay_ == absl::ZeroDuration()) {
    next_delay_ = options_.first_delay;
  }
  while (!recent_.empty() && now - recent_.front() > options_.window) recent_.pop_front();
  if (static_cast<int>(recent_.size()) >= options_.max_restarts) return std::nullopt;
  recent_.push_back(now);
  ++num_restarts_;
  const absl::Time restart_at = now + next_delay_;
  next_delay_ = std::min(next_delay_ * 2, options_.max_delay);
  return restart_at;
}

}  // namespace rollcall
