#include "services/base/runtime/clock.h"

#include "absl/time/clock.h"

namespace rollcall {

SystemClock::SystemClock()
    : wall_start_(absl::Now()), steady_start_(std::chrono::steady_clock::now()) {}

absl::Time SystemClock::Now() const {
  return wall_start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
}

absl::Time ManualClock::Now() const {
  MutexLock lock(mu_);
  return now_;
}

void ManualClock::Advance(absl::Duration by) {
  MutexLock lock(mu_);
  now_ += by;
}

}  // namespace rollcall
