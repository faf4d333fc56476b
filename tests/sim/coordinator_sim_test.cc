// Properties of the coordinator over random schedules. A failing case prints its seed; the same
// seed gives the same schedule.
#include <numeric>
#include <string>

#include "tests/sim/cluster_sim.h"
#include "tests/support/catch.h"

namespace rollcall::testing {
namespace {

std::vector<int64_t> StepsUpTo(int64_t n) {
  std::vector<int64_t> steps(static_cast<size_t>(n));
  std::iota(steps.begin(), steps.end(), 1);
  return steps;
}

SimResult RunChecked(const SimOptions& options) {
  INFO("seed " << options.seed);
  SimResult result = RunCluster(options);
  INFO("after " << result.ticks << " ticks, step " << result.status.step() << ", "
                << result.status.state_reason());
  for (const std::string& violation : result.violations) UNSCOPED_INFO(violation);
  REQUIRE(result.violations.empty());
  REQUIRE(result.status.state() == v1::JOB_STATE_SUCCEEDED);
  REQUIRE(result.status.step() == options.total_steps);
  REQUIRE(result.metric_steps == StepsUpTo(options.total_steps));
  REQUIRE(result.status.optimizer_updates() == options.total_steps);
  REQUIRE(result.worst_staleness <= options.max_staleness);
  REQUIRE(result.status.samples().consumed() == result.consumed_in_journal);
  if (options.kind == v1::DataSpec::PROMPTS) {
    REQUIRE(result.consumed_in_journal + result.failed_in_journal ==
            static_cast<int64_t>(options.total_steps) * options.prompts_per_step *
                options.samples_per_prompt);
  }
  return result;
}

SimOptions Faulty(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  options.num_rollouts = 1 + static_cast<int>(seed % 4);
  options.num_rewards = 1 + static_cast<int>(seed % 2);
  options.num_learners = 2 + static_cast<int>(seed % 2);
  options.death = 0.003;
  options.hang = 0.003;
  options.lost_reply = 0.03;
  options.late_answer = 0.05;
  options.duplicate_answer = 0.05;
  options.broken_answer = 0.02;
  options.infrastructure_failure = 0.02;
  options.fault_ticks = 1000;
  return options;
}

TEST_CASE("Coordinator: an undisturbed job ends and trains each sample once", "[sim]") {
  SimOptions options;
  options.num_evaluation_prompts = 3;
  options.evaluate_interval = 2;
  const SimResult result = RunChecked(options);
  CHECK(result.replayed_batches == 0);
  CHECK(result.epochs == 1);
  CHECK(result.evaluated_versions == std::vector<int64_t>{0, 2, 4, 5});
}

TEST_CASE("Coordinator: synchronous batches do not depend on who died when", "[sim]") {
  SimOptions calm;
  calm.data_failure = 0.1;
  const SimResult expected = RunChecked(calm);
  int64_t num_replayed = 0;
  int64_t num_restarts = 0;
  int64_t num_epochs = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SimOptions options = Faulty(seed);
    options.data_failure = calm.data_failure;
    options.coordinator_death = seed % 3 == 0 ? 0.004 : 0;
    const SimResult result = RunChecked(options);
    INFO("seed " << seed);
    REQUIRE(result.batches == expected.batches);
    num_replayed += result.replayed_batches;
    num_restarts += result.coordinator_restarts;
    num_epochs += result.epochs;
  }
  // The faults did what they are for.
  CHECK(num_replayed > 300);
  CHECK(num_restarts > 30);
  CHECK(num_epochs > 600);
}

TEST_CASE("Coordinator: the staleness bound holds under faults", "[sim]") {
  int64_t worst = 0;
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    SimOptions options = Faulty(seed);
    options.max_staleness = 1 + static_cast<int>(seed % 3);
    options.total_steps = 8;
    options.coordinator_death = seed % 2 == 0 ? 0.004 : 0;
    worst = std::max(worst, RunChecked(options).worst_staleness);
  }
  // The bound is used, not only kept.
  CHECK(worst >= 1);
}

TEST_CASE("Coordinator: evaluations are complete under faults, each version once", "[sim]") {
  for (uint64_t seed = 2000; seed < 2100; ++seed) {
    SimOptions options = Faulty(seed);
    options.num_evaluation_prompts = 4;
    options.evaluate_interval = 1;
    options.max_staleness = static_cast<int>(seed % 2);
    options.coordinator_death = 0.003;
    const SimResult result = RunChecked(options);
    INFO("seed " << seed);
    REQUIRE(result.evaluated_versions == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  }
}

TEST_CASE("Coordinator: data set jobs resume over the same batches", "[sim]") {
  for (const auto kind : {v1::DataSpec::COMPLETIONS, v1::DataSpec::PAIRS}) {
    SimOptions calm;
    calm.kind = kind;
    calm.num_rollouts = 0;
    calm.num_rewards = 0;
    const SimResult expected = RunChecked(calm);
    const int64_t rows = kind == v1::DataSpec::PAIRS ? 2 : 1;
    CHECK(expected.consumed_in_journal == 5 * 3 * rows);
    for (uint64_t seed = 3000; seed < 3060; ++seed) {
      SimOptions options = Faulty(seed);
      options.kind = kind;
      options.num_rollouts = 0;
      options.num_rewards = 0;
      options.coordinator_death = 0.01;
      const SimResult result = RunChecked(options);
      INFO("seed " << seed);
      REQUIRE(result.batches == expected.batches);
    }
  }
}

TEST_CASE("Coordinator: thousands of hostile schedules", "[sim][.slow]") {
  for (uint64_t seed = 10'000; seed < 20'000; ++seed) {
    SimOptions options = Faulty(seed);
    options.death = 0.01;
    options.hang = 0.005;
    options.lost_reply = 0.1;
    options.max_staleness = static_cast<int>(seed % 4);
    options.coordinator_death = seed % 2 == 0 ? 0.01 : 0;
    options.num_evaluation_prompts = static_cast<int>(seed % 3);
    options.evaluate_interval = 2;
    options.learner_ranks = 1 + static_cast<int>(seed % 2);
    options.fault_ticks = 300;
    const SimResult result = RunCluster(options);
    INFO("seed " << seed << ": " << result.status.state_reason());
    for (const std::string& violation : result.violations) UNSCOPED_INFO(violation);
    REQUIRE(result.violations.empty());
    // A group that dies again and again may end the job, with that reason; nothing may hang.
    if (result.status.state() == v1::JOB_STATE_FAILED) {
      REQUIRE(result.status.state_reason().find("times without a new step") != std::string::npos);
    } else {
      REQUIRE(result.status.state() == v1::JOB_STATE_SUCCEEDED);
      REQUIRE(result.metric_steps == StepsUpTo(options.total_steps));
    }
  }
}

}  // namespace
}  // namespace rollcall::testing
