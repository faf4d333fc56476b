#include "services/cli/supervisor/restart_policy.h"

#include "services/base/runtime/clock.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

// Ends the process at once and says how long the wait for the next start is.
std::optional<absl::Duration> Crash(RestartPolicy& policy, ManualClock& clock) {
  const std::optional<absl::Time> at = policy.Ended(clock.Now());
  if (!at.has_value()) return std::nullopt;
  const absl::Duration wait = *at - clock.Now();
  clock.Advance(wait);
  policy.Started(clock.Now());
  return wait;
}

TEST_CASE("RestartPolicy: waits double up to the longest, then it is a crash loop", "[unit][cli]") {
  ManualClock clock;
  RestartPolicy policy;
  policy.Started(clock.Now());
  for (const int64_t milliseconds : {100, 200, 400, 800, 1600, 3200, 6400, 10'000}) {
    CHECK(Crash(policy, clock) == absl::Milliseconds(milliseconds));
  }
  CHECK(policy.num_restarts() == 8);
  CHECK_FALSE(Crash(policy, clock).has_value());
}

TEST_CASE("RestartPolicy: ten seconds of life start the waits over", "[unit][cli]") {
  ManualClock clock;
  RestartPolicy policy;
  policy.Started(clock.Now());
  for (int i = 0; i < 4; ++i) Crash(policy, clock);
  clock.Advance(absl::Milliseconds(9'999));
  CHECK(Crash(policy, clock) == absl::Milliseconds(1600));
  clock.Advance(absl::Seconds(10));
  CHECK(Crash(policy, clock) == absl::Milliseconds(100));
}

TEST_CASE("RestartPolicy: restarts that are spread out never are a crash loop", "[unit][cli]") {
  ManualClock clock;
  RestartPolicy policy;
  policy.Started(clock.Now());
  for (int i = 0; i < 1000; ++i) {
    clock.Advance(absl::Seconds(11));
    REQUIRE(Crash(policy, clock) == absl::Milliseconds(100));
  }
  CHECK(policy.num_restarts() == 1000);
}

TEST_CASE("RestartPolicy: only restarts within the window count", "[unit][cli]") {
  ManualClock clock;
  RestartPolicy policy({.max_restarts = 2, .window = absl::Seconds(30)});
  policy.Started(clock.Now());
  CHECK(Crash(policy, clock).has_value());
  CHECK(Crash(policy, clock).has_value());
  CHECK_FALSE(policy.Ended(clock.Now()).has_value());
  clock.Advance(absl::Seconds(31));
  CHECK(policy.Ended(clock.Now()).has_value());
}

}  // namespace
}  // namespace rollcall
