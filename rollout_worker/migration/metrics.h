// What migration tells about itself. Methods are events.
#pragma once

#include <string>

#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class MigrationMetrics {
 public:
  explicit MigrationMetrics(MetricsRegistry& registry);

  // `pause_seconds`: from the last token here to the first one that came back.
  void MovedOut(int num_stages, double pause_seconds);
  void Abandoned() { abandoned_.Increment(1); }  // it went on here
  void Reclaimed() { reclaimed_.Increment(1); }  // the destination was lost after it had moved
  void MovedIn() { moved_in_.Increment(1); }
  void Refused() { refused_.Increment(1); }
  void Sent(size_t num_bytes) { sent_bytes_.Increment(static_cast<double>(num_bytes)); }

 private:
  Counter& moved_out_;
  Counter& abandoned_;
  Counter& reclaimed_;
  Counter& moved_in_;
  Counter& refused_;
  Counter& sent_bytes_;
  Histogram& pause_seconds_;
  Histogram& stages_;
};

}  // namespace rollcall
