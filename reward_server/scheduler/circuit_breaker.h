// Stops calling a back-end that does not answer.
//
//   closed --max_failures in a row--> open --open_duration--> half-open
//     ^                                 ^                        |
//     |                                 '------- a probe failed -|
//     '---------------------------------------- a probe passed --'
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace rollcall {

struct CircuitBreakerOptions {
  int max_failures = 8;  // consecutive
  absl::Duration open_duration = absl::Seconds(5);
  int max_probes = 1;  // calls at one time while half-open
};

// Takes the time as a parameter; not thread-safe.
class CircuitBreaker {
 public:
  enum class State { kClosed, kOpen, kHalfOpen };

  // The right to make one call; hand it to Record() with the outcome. An outcome of an earlier
  // state changes nothing.
  struct Permit {
    bool allowed = false;
    uint64_t epoch = 0;
  };

  explicit CircuitBreaker(const CircuitBreakerOptions& options) : options_(options) {}

  Permit Acquire(absl::Time now);
  enum class Outcome { kAnswered, kFailed };
  void Record(const Permit& permit, Outcome outcome, absl::Time now);

  State state() const { return state_; }

 private:
  void Enter(State state);

  const CircuitBreakerOptions options_;
  State state_ = State::kClosed;
  uint64_t epoch_ = 0;  // counts changes of state
  int num_failures_ = 0;
  int num_probes_ = 0;
  absl::Time opened_at_;
};

}  // namespace rollcall
