#include "reward_server/scheduler/circuit_breaker.h"

namespace rollcall {

void CircuitBreaker::Enter(State state) {
  state_ = state;
  ++epoch_;
  num_failures_ = 0;
  num_probes_ = 0;
}

CircuitBreaker::Permit CircuitBreaker::Acquire(absl::Time now) {
  if (state_ == State::kOpen && now - opened_at_ >= options_.open_duration) {
    Enter(State::kHalfOpen);
  }
  if (state_ == State::kOpen) return {};
  if (state_ == State::kHalfOpen) {
    if (num_probes_ >= options_.max_probes) return {};
    ++num_probes_;
  }
  return {.allowed = true, .epoch = epoch_};
}

void CircuitBreaker::Record(const Permit& permit, Outcome outcome, absl::Time now) {
  if (!permit.allowed || permit.epoch != epoch_) return;
  if (outcome == Outcome::kAnswered) {
    num_failures_ = 0;
    if (state_ == State::kHalfOpen) Enter(State::kClosed);
    return;
  }
  ++num_failures_;
  if (state_ == State::kHalfOpen || num_failures_ >= options_.max_failures) {
    Enter(State::kOpen);
    opened_at_ = now;
  }
}

}  // namespace rollcall
