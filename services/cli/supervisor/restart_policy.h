// When a process that ended is started again. Pure: time comes in, a decision goes out.
#pragma once

#include <deque>
#include <optional>

#include "absl/time/time.h"

namespace rollcall {

struct RestartOptions {
  absl::Duration first_delay = absl::Milliseconds(100);
  absl::Duration max_delay = absl::Seconds(10);
  // A process that lived this long starts over with the first delay.
  absl::Duration reset_after = absl::Seconds(10);
  // This many restarts within the window are a crash loop.
  int max_restarts = 8;
  absl::Duration window = absl::Minutes(1);
};

// Call order for one process: Started (Ended Started)*.
class RestartPolicy {
 public:
  explicit RestartPolicy(const RestartOptions& options = {}) : options_(options) {}

  void Started(absl::Time now);
  // When to start it again; nothing when it is in a crash loop.
  std::optional<absl::Time> Ended(absl::Time now);
  int num_restarts() const { return num_restarts_; }

 private:
  const RestartOptions options_;
  absl::Time started_at_ = absl::InfinitePast();
  absl::Duration next_delay_ = absl::ZeroDuration();
  int num_restarts_ = 0;
  std::deque<absl::Time> recent_;  // restarts within the window, oldest first
};

}  // namespace rollcall
