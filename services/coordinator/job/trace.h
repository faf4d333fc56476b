// Spans of one job in Chrome's trace format, bounded: the newest spans stay.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "absl/time/time.h"

namespace rollcall::coordinator {

struct TraceSpan {
  std::string name;  // "sample", "score", "build", "update", "publish", "evaluate"
  std::string lane;  // worker name, or "learners"
  absl::Time start;
  absl::Duration duration;
  int64_t iteration = 0;
};

// Not thread-safe; copies are snapshots.
class Trace {
 public:
  static constexpr size_t kMaxSpans = 20'000;

  void Add(TraceSpan span);
  // A JSON object that chrome://tracing and Perfetto open. Times are relative to `origin`.
  std::string ToJson(absl::Time origin) const;
  size_t size() const { return spans_.size(); }

 private:
  std::deque<TraceSpan> spans_;
  uint64_t num_dropped_ = 0;
};

}  // namespace rollcall::coordinator
