// A whole cluster on one thread with fake time: one real core and its journal's store, and fake
// rollout workers, reward servers and learners that die, hang, answer late, twice, wrongly or not
// at all. Everything follows from the seed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "rollcall/v1/coordinator.pb.h"
#include "rollcall/v1/job.pb.h"

namespace rollcall::testing {

struct SimOptions {
  uint64_t seed = 1;
  int num_rollouts = 2;
  int num_rewards = 1;
  int num_learners = 2;
  // Chances per actor and tick (50 ms of fake time).
  double death = 0;
  double hang = 0;
  // Chances per answer.
  double lost_reply = 0;
  double late_answer = 0;
  double duplicate_answer = 0;
  double broken_answer = 0;
  double infrastructure_failure = 0;
  // Share of the samples, fixed by their key, whose score is a failure of the data.
  double data_failure = 0;
  // Chance per tick that the coordinator is killed and started again from its journal.
  double coordinator_death = 0;
  // Faults stop after this many ticks, so that every job can end.
  int fault_ticks = 2000;
  int max_ticks = 20'000;

  int total_steps = 5;
  int prompts_per_step = 3;
  int samples_per_prompt = 2;
  int max_staleness = 0;
  int learner_ranks = 2;
  int checkpoint_interval = 2;
  int evaluate_interval = 0;
  int num_evaluation_prompts = 0;
  v1::DataSpec::Kind kind = v1::DataSpec::PROMPTS;
};

struct SimResult {
  v1::JobStatus status;
  int ticks = 0;
  // What each step trained on, in order; equal strings mean equal batches.
  std::map<int64_t, std::string> batches;
  // Broken invariants, in words; empty when all held.
  std::vector<std::string> violations;
  int64_t consumed_in_journal = 0;
  int64_t failed_in_journal = 0;
  std::vector<int64_t> metric_steps;
  std::vector<int64_t> evaluated_versions;
  int64_t worst_staleness = 0;
  int64_t replayed_batches = 0;
  int coordinator_restarts = 0;
  int64_t epochs = 0;
};

// Runs one job to its end, or until max_ticks.
SimResult RunCluster(const SimOptions& options);

}  // namespace rollcall::testing
