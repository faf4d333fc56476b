// Time as a parameter: code asks a Clock, tests move a ManualClock by hand.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall-clock time that never goes back within this process.
  virtual absl::Time Now() const = 0;
};

// The system's steady clock, anchored to wall time once at construction.
class SystemClock final : public Clock {
 public:
  SystemClock();
  absl::Time Now() const override;

 private:
  const absl::Time wall_start_;
  const std::chrono::steady_clock::time_point steady_start_;
};

// Stands still until told to move.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}
  absl::Time Now() const override ABSL_LOCKS_EXCLUDED(mu_);
  void Advance(absl::Duration by) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  mutable Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
