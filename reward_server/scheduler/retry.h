// When to try again.
#pragma once

#include <optional>

#include "absl/time/time.h"
#include "reward_server/scoring/types.h"

namespace rollcall {

struct RetryOptions {
  absl::Duration first_delay = absl::Milliseconds(50);
  absl::Duration max_delay = absl::Seconds(2);
};

struct Attempt {
  int number = 1;  // of the attempt that just ended, from 1
  int max_retries = 0;
  absl::Time now;
  absl::Time deadline;
  double jitter = 0;  // uniform in [0, 1)
};

// Time of the next attempt: after half to all of first_delay x 2^(number - 1), at most max_delay.
// Nothing for a value, a data failure, an open breaker, a spent budget, or when the deadline comes
// first. Pure.
std::optional<absl::Time> NextAttempt(const RetryOptions& options, const Attempt& attempt,
                                      const ScoreResult& result);

// Reason of the failure while a breaker is open.
inline constexpr char kBreakerOpen[] = "breaker_open";

}  // namespace rollcall
