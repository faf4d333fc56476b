#include "trainer/learner/step_metrics.h"

#include <utility>

namespace rollcall {

SumTable::SumTable(std::vector<std::string> names) : values_(names.size(), 0.0) {
  for (size_t i = 0; i < names.size(); ++i) index_.emplace(std::move(names[i]), i);
  ROLLCALL_CHECK(index_.size() == values_.size(), "two sums have the same name");
}

double& SumTable::operator[](std::string_view name) {
  const auto found = index_.find(name);
  ROLLCALL_CHECK(found != index_.end(), "no such sum");
  return values_[found->second];
}

double SumTable::Get(std::string_view name) const {
  const auto found = index_.find(name);
  ROLLCALL_CHECK(found != index_.end(), "no such sum");
  return values_[found->second];
}

double SumTable::Mean(std::string_view name, std::string_view count) const {
  const double n = Get(count);
  return n > 0 ? Get(name) / n : 0.0;
}

PhaseTimer::PhaseTimer(const Clock& clock, const LearnerEvents& events)
    : clock_(clock), events_(events) {}

void PhaseTimer::Enter(std::string_view phase) {
  if (phase == phase_) return;
  Stop();
  phase_ = phase;
  since_ = clock_.Now();
  if (events_.phase) events_.phase(phase);
}

void PhaseTimer::Stop() {
  if (!phase_.empty()) seconds_[phase_] += absl::ToDoubleSeconds(clock_.Now() - since_);
  phase_.clear();
}

}  // namespace rollcall
