// What a learner process tells about itself. Methods are events.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class LearnerMetrics {
 public:
  explicit LearnerMetrics(MetricsRegistry& registry);

  void GroupFormed(int64_t epoch, int world_size);
  void GroupLeft();
  void StepTrained(int64_t step, double tokens, int updates);
  // Seconds of one phase of one step: "wait_batch", "forward", "publish", ...
  void PhaseTook(std::string_view phase, double seconds);
  void Fenced() { fenced_.Increment(); }
  void AssignmentFailed() { failures_.Increment(); }

 private:
  MetricsRegistry& registry_;
  Gauge& epoch_;
  Gauge& world_size_;
  Gauge& step_;
  Counter& steps_;
  Counter& tokens_;
  Counter& updates_;
  Counter& fenced_;
  Counter& failures_;
};

}  // namespace rollcall
