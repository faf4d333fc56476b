// What a step adds up on its way, and how that becomes a report.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "trainer/learner/learner.h"

namespace rollcall {

// Named sums with an order that all ranks share, so that one vector can be added over ranks.
class SumTable {
 public:
  explicit SumTable(std::vector<std::string> names);
  // The name must be one of the table's.
  double& operator[](std::string_view name);
  double Get(std::string_view name) const;
  // sum / count, 0 when nothing was counted.
  double Mean(std::string_view name, std::string_view count) const;
  std::span<double> values() { return values_; }

 private:
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<double> values_;
};

// Seconds of each phase of a step, told to the events as it goes.
class PhaseTimer {
 public:
  PhaseTimer(const Clock& clock, const LearnerEvents& events);
  // Ends the phase before.
  void Enter(std::string_view phase);
  void Stop();
  const std::map<std::string, double>& seconds() const { return seconds_; }

 private:
  const Clock& clock_;
  const LearnerEvents& events_;
  std::string phase_;
  absl::Time since_;
  std::map<std::string, double> seconds_;
};

}  // namespace rollcall
