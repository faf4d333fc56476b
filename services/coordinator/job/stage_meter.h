// Time that a stage was busy: at least one piece of its work was in progress.
#pragma once

#include <algorithm>

#include "absl/time/time.h"

namespace rollcall::coordinator {

// Not thread-safe.
class StageMeter {
 public:
  void Begin(absl::Time now) {
    if (num_active_++ == 0) since_ = now;
  }
  void End(absl::Time now) {
    if (num_active_ == 0) return;
    if (--num_active_ == 0) busy_ += now - since_;
  }
  // Ends whatever is in progress.
  void Stop(absl::Time now) {
    if (num_active_ > 0) busy_ += now - since_;
    num_active_ = 0;
  }
  bool active() const { return num_active_ > 0; }
  absl::Time since() const { return since_; }
  absl::Duration busy(absl::Time now) const {
    return num_active_ > 0 ? busy_ + (now - since_) : busy_;
  }
  void Restore(absl::Duration busy) { busy_ = busy; }

 private:
  absl::Duration busy_;
  absl::Time since_;
  int num_active_ = 0;
};

}  // namespace rollcall::coordinator
