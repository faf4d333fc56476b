#include "rollout_worker/scheduler/freeness.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("Freeness: cases worked by hand", "[unit][scheduler]") {
  std::vector<RunningLoad> running = {{100, 1}, {60, 1}, {40, 1}, {20, 1}};
  EngineLoad load{.num_blocks = 851, .running = running};
  CHECK(Freeness(load) == 157.75);
  load.num_waiting = 3;
  load.head_demand_blocks = 200;
  CHECK(Freeness(load) == 107.75);
  load.head_demand_blocks = 700;
  CHECK(Freeness(load) == -17.25);
  load.head_demand_blocks = 0;
  load.num_waiting = 0;
  running[2].priority = 0;
  CHECK(Freeness(load, {{0, 751}}) == -30.0);
  // Two of the priority share one headroom.
  running[3].priority = 0;
  CHECK(Freeness(load, {{0, 751}}) == -30.0);
}

TEST_CASE("Freeness: an engine that leaves has none, an idle one has all", "[unit][scheduler]") {
  EngineLoad load{.num_blocks = 10};
  CHECK(std::isinf(Freeness(load)));
  CHECK(Freeness(load) > 0);
  load.is_terminating = true;
  CHECK(Freeness(load) < 0);
  CHECK(std::isinf(Freeness(load)));
}

}  // namespace rollcall
