// What an HTTP server tells about itself. Methods are events.
#pragma once

#include <array>
#include <cstddef>

#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class HttpMetrics {
 public:
  explicit HttpMetrics(MetricsRegistry& registry);

  void Connections(size_t count) { connections_.Set(static_cast<double>(count)); }
  void Answered(int status, double seconds);
  // There were too many connections.
  void Refused() { refused_.Increment(); }
  void KeyRefused() { keys_refused_.Increment(); }
  // The client went before its answer was complete.
  void ClientGone() { gone_.Increment(); }
  // The client did not take its answer; it was cut.
  void SlowReader() { slow_readers_.Increment(); }
  // The client did not send its request in time.
  void SlowWriter() { slow_writers_.Increment(); }

 private:
  Gauge& connections_;
  std::array<Counter*, 5> answered_{};  // by the first digit of the status
  Counter& refused_;
  Counter& keys_refused_;
  Counter& gone_;
  Counter& slow_readers_;
  Counter& slow_writers_;
  Histogram& seconds_;
};

}  // namespace rollcall
