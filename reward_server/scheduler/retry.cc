#include "reward_server/scheduler/retry.h"

#include <algorithm>

namespace rollcall {

std::optional<absl::Time> NextAttempt(const RetryOptions& options, const Attempt& attempt,
                                      const ScoreResult& result) {
  if (!result.is_infrastructure_failure() || result.failure().reason == kBreakerOpen ||
      attempt.number > attempt.max_retries) {
    return std::nullopt;
  }
  const int doublings = std::min(attempt.number - 1, 20);
  const absl::Duration full =
      std::min(options.max_delay, options.first_delay * (int64_t{1} << doublings));
  const absl::Time next = attempt.now + full * (0.5 + 0.5 * attempt.jitter);
  if (next >= attempt.deadline) return std::nullopt;
  return next;
}

}  // namespace rollcall
