#include "services/coordinator/worker/rescheduler.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

EngineState MakeEngine(const std::string& name, int32_t num_used, int32_t num_running) {
  EngineState engine{.worker_id = name,
                     .address = name + ":1",
                     .job_id = "job",
                     .policy_version = 1,
                     .num_running = num_running,
                     .num_used_blocks = num_used,
                     .num_blocks = 100};
  engine.freeness =
      num_running == 0 ? std::numeric_limits<double>::infinity() : (100.0 - num_used) / num_running;
  return engine;
}

double Spread(const std::vector<EngineState>& engines) {
  double mean = 0;
  for (const EngineState& engine : engines) mean += engine.num_used_blocks;
  mean /= static_cast<double>(engines.size());
  double sum = 0;
  for (const EngineState& engine : engines) sum += std::pow(engine.num_used_blocks - mean, 2);
  return std::sqrt(sum / static_cast<double>(engines.size()));
}

}  // namespace

TEST_CASE("PlanMigrations: the fullest engine goes with the emptiest", "[unit][coordinator]") {
  const std::vector<EngineState> engines = {MakeEngine("a", 95, 10), MakeEngine("b", 99, 10),
                                            MakeEngine("c", 10, 2), MakeEngine("d", 0, 0),
                                            MakeEngine("e", 70, 5)};
  const auto plan = PlanMigrations({.mode = Rescheduling::kDefragment}, engines);
  REQUIRE(plan.size() == 2);
  CHECK(plan[0].source_worker_id == "b");
  CHECK(plan[0].destination == "d:1");
  CHECK(plan[1].source_worker_id == "a");
  CHECK(plan[1].destination == "c:1");
  CHECK(PlanMigrations({}, engines).empty());
}

TEST_CASE("PlanMigrations: other weights and other jobs do not meet", "[unit][coordinator]") {
  std::vector<EngineState> engines = {MakeEngine("a", 99, 10), MakeEngine("b", 0, 0)};
  engines[1].policy_version = 2;
  CHECK(PlanMigrations({.mode = Rescheduling::kDefragment}, engines).empty());
  engines[1].policy_version = 1;
  engines[1].job_id = "other";
  CHECK(PlanMigrations({.mode = Rescheduling::kDefragment}, engines).empty());
}

TEST_CASE("PlanMigrations: balance does not turn the difference around", "[unit][coordinator]") {
  // One large sequence: at the other engine it would only change places.
  const std::vector<EngineState> engines = {MakeEngine("a", 98, 1), MakeEngine("b", 50, 4)};
  CHECK(PlanMigrations({.mode = Rescheduling::kBalance}, engines).empty());
  CHECK(PlanMigrations({.mode = Rescheduling::kDefragment}, engines).size() == 1);
}

TEST_CASE("PlanMigrations: a worker that leaves gives everything away", "[unit][coordinator]") {
  std::vector<EngineState> engines = {MakeEngine("a", 10, 4), MakeEngine("b", 50, 4)};
  engines[0].is_leaving = true;
  const auto plan = PlanMigrations({.mode = Rescheduling::kBalance}, engines);
  REQUIRE(plan.size() == 1);
  CHECK(plan[0].max_sequences == 4);
}

TEST_CASE("PlanMigrations: skewed loads come together and nobody gives and takes",
          "[unit][coordinator]") {
  CounterRandom random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<EngineState> engines;
    for (int i = 0; i < 4; ++i) {
      const auto running = static_cast<int32_t>(i == 0 ? 16 + random.Below(8) : random.Below(4));
      engines.push_back(
          MakeEngine("w" + std::to_string(i),
                     i == 0 ? 90 + static_cast<int32_t>(random.Below(10)) : 4 * running, running));
    }
    const double before = Spread(engines);
    for (int step = 0; step < 40; ++step) {
      const auto plan =
          PlanMigrations({.mode = Rescheduling::kBalance, .migrate_out_below = 8}, engines);
      std::set<std::string> gives;
      std::set<std::string> takes;
      for (const PlannedMigration& move : plan) {
        REQUIRE(gives.insert(move.source_worker_id).second);
        REQUIRE(takes.insert(move.destination).second);
        REQUIRE(takes.count(move.source_worker_id + ":1") == 0);
        for (EngineState& from : engines) {
          if (from.worker_id != move.source_worker_id) continue;
          for (EngineState& to : engines) {
            if (to.address != move.destination) continue;
            const int32_t blocks = from.num_used_blocks / from.num_running;
            from = MakeEngine(from.worker_id, from.num_used_blocks - blocks, from.num_running - 1);
            to = MakeEngine(to.worker_id, to.num_used_blocks + blocks, to.num_running + 1);
          }
        }
      }
    }
    CHECK(Spread(engines) < before / 2);
  }
}

}  // namespace rollcall::coordinator
