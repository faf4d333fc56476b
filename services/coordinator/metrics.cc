#include "services/coordinator/metrics.h"

namespace rollcall::coordinator {
namespace {

const char* Word(v1::SampleState state) {
  switch (state) {
    case v1::SAMPLE_STATE_GENERATED:
      return "generated";
    case v1::SAMPLE_STATE_SCORED:
      return "scored";
    case v1::SAMPLE_STATE_BATCHED:
      return "batched";
    case v1::SAMPLE_STATE_CONSUMED:
      return "consumed";
    case v1::SAMPLE_STATE_FAILED:
      return "failed";
    case v1::SAMPLE_STATE_EXPIRED:
      return "expired";
    default:
      return "other";
  }
}

const char* Word(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_QUEUED:
      return "queued";
    case v1::JOB_STATE_RUNNING:
      return "running";
    case v1::JOB_STATE_PAUSED:
      return "paused";
    case v1::JOB_STATE_SUCCEEDED:
      return "succeeded";
    case v1::JOB_STATE_FAILED:
      return "failed";
    case v1::JOB_STATE_CANCELLED:
      return "cancelled";
    default:
      return "other";
  }
}

const char* Word(v1::ProcessRole role) {
  switch (role) {
    case v1::PROCESS_ROLE_ROLLOUT:
      return "rollout";
    case v1::PROCESS_ROLE_REWARD:
      return "reward";
    case v1::PROCESS_ROLE_LEARNER:
      return "learner";
    default:
      return "other";
  }
}

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(MetricsRegistry& registry)
    : registry_(registry),
      prompt_leases_(registry.GetCounter("rollcall_coordinator_leases_issued_total",
                                         "Leases handed out.", {{"kind", "prompt"}})),
      score_leases_(registry.GetCounter("rollcall_coordinator_leases_issued_total",
                                        "Leases handed out.", {{"kind", "score"}})),
      prompt_leases_expired_(registry.GetCounter("rollcall_coordinator_leases_expired_total",
                                                 "Leases that were given back unanswered.",
                                                 {{"kind", "prompt"}})),
      score_leases_expired_(registry.GetCounter("rollcall_coordinator_leases_expired_total",
                                                "Leases that were given back unanswered.",
                                                {{"kind", "score"}})),
      prompt_lease_seconds_(registry.GetHistogram("rollcall_coordinator_lease_seconds",
                                                  "Time from lease to answer.", LatencyBuckets(),
                                                  {{"kind", "prompt"}})),
      score_lease_seconds_(registry.GetHistogram("rollcall_coordinator_lease_seconds",
                                                 "Time from lease to answer.", LatencyBuckets(),
                                                 {{"kind", "score"}})),
      duplicates_(registry.GetCounter("rollcall_coordinator_samples_duplicate_total",
                                      "Answers for samples that were there already.")),
      rejected_(registry.GetCounter("rollcall_coordinator_samples_rejected_total",
                                    "Answers that were broken.")),
      staleness_(registry.GetHistogram("rollcall_coordinator_batch_staleness_versions",
                                       "Staleness of the oldest token of a batch.",
                                       {0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64})),
      batch_wait_seconds_(registry.GetHistogram("rollcall_coordinator_batch_wait_seconds",
                                                "Time that a rank waited for its batch.",
                                                LatencyBuckets())),
      steps_(registry.GetCounter("rollcall_coordinator_steps_committed_total",
                                 "Training steps committed.")),
      replays_(registry.GetCounter("rollcall_coordinator_steps_replayed_total",
                                   "Committed steps run again after a resume.")),
      fences_(registry.GetCounter("rollcall_coordinator_learner_groups_fenced_total",
                                  "Learner groups that ended before their job.")),
      rows_dropped_(registry.GetCounter("rollcall_coordinator_rows_dropped_total",
                                        "Data rows too long for the limits of their job.")),
      pending_samples_(registry.GetGauge("rollcall_coordinator_queue_depth_samples",
                                         "Samples that wait.", {{"queue", "prompt"}})),
      waiting_scores_(registry.GetGauge("rollcall_coordinator_queue_depth_samples",
                                        "Samples that wait.", {{"queue", "score"}})),
      waiting_lease_calls_(registry.GetGauge("rollcall_coordinator_waiting_lease_calls",
                                             "Calls of workers that wait for work.")),
      held_leases_(registry.GetGauge("rollcall_coordinator_held_leases", "Leases held now.")),
      policy_version_(registry.GetGauge("rollcall_coordinator_policy_version",
                                        "Newest policy version over the running jobs.")) {
  for (const v1::SampleState state :
       {v1::SAMPLE_STATE_GENERATED, v1::SAMPLE_STATE_SCORED, v1::SAMPLE_STATE_BATCHED,
        v1::SAMPLE_STATE_CONSUMED, v1::SAMPLE_STATE_FAILED, v1::SAMPLE_STATE_EXPIRED}) {
    samples_[state] =
        &registry.GetCounter("rollcall_coordinator_samples_total", "Samples that entered a state.",
                             {{"state", Word(state)}});
  }
}

void CoordinatorMetrics::SampleEntered(v1::SampleState state, double count) {
  const auto found = samples_.find(state);
  if (found != samples_.end()) found->second->Increment(count);
}

void CoordinatorMetrics::WorkerLost(const std::string& cause) {
  registry_
      .GetCounter("rollcall_coordinator_workers_lost_total", "Processes that went away.",
                  {{"cause", cause}})
      .Increment();
}

void CoordinatorMetrics::SetJobs(v1::JobState state, double count) {
  registry_.GetGauge("rollcall_coordinator_jobs", "Jobs by state.", {{"state", Word(state)}})
      .Set(count);
}

void CoordinatorMetrics::SetWorkers(v1::ProcessRole role, double count) {
  registry_
      .GetGauge("rollcall_coordinator_workers", "Registered processes by role.",
                {{"role", Word(role)}})
      .Set(count);
}

void CoordinatorMetrics::SetQueues(double pending_samples, double waiting_scores,
                                   double waiting_lease_calls, double held_leases) {
  pending_samples_.Set(pending_samples);
  waiting_scores_.Set(waiting_scores);
  waiting_lease_calls_.Set(waiting_lease_calls);
  held_leases_.Set(held_leases);
}

}  // namespace rollcall::coordinator
