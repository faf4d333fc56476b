#include "rollout_worker/metrics.h"

namespace rollcall {
namespace {

Counter& WaitCounter(MetricsRegistry& registry, const char* reason) {
  return registry.GetCounter("rollcall_rollout_wait_seconds_total",
                             "Time in which the engine had nothing to do.", {{"for", reason}});
}

Histogram& FetchHistogram(MetricsRegistry& registry, const char* transport) {
  return registry.GetHistogram("rollcall_rollout_weight_fetch_seconds",
                               "Time to fetch and verify one version of the weights.",
                               LatencyBuckets(), {{"transport", transport}});
}

}  // namespace

RolloutMetrics::RolloutMetrics(MetricsRegistry& registry)
    : running_(registry.GetGauge("rollcall_rollout_sequences_running",
                                 "Sequences that compute in every step.")),
      waiting_(registry.GetGauge("rollcall_rollout_sequences_waiting",
                                 "Sequences that wait for room in the batch or the KV cache.")),
      blocks_used_(registry.GetGauge("rollcall_rollout_kv_blocks_used",
                                     "KV blocks held by sequences, all jobs together.")),
      blocks_total_(registry.GetGauge("rollcall_rollout_kv_blocks_capacity",
                                      "KV blocks of this process, all jobs together.")),
      kv_usage_(registry.GetGauge("rollcall_rollout_kv_usage_ratio",
                                  "Share of the KV blocks that sequences hold, 1 is all.")),
      held_sequences_(registry.GetGauge("rollcall_rollout_held_sequences",
                                        "Unfinished samples of the leases held.")),
      wait_leases_(WaitCounter(registry, "leases")),
      wait_weights_(WaitCounter(registry, "weights")),
      leases_submitted_(registry.GetCounter("rollcall_rollout_leases_submitted_total",
                                            "Leases whose answer the coordinator took.")),
      leases_dropped_(registry.GetCounter(
          "rollcall_rollout_leases_dropped_total",
          "Leases given up: past their deadline, fenced, or of a job that ended.")),
      samples_failed_(registry.GetCounter("rollcall_rollout_samples_failed_total",
                                          "Samples reported as failures.")),
      submit_failures_(registry.GetCounter("rollcall_rollout_submit_failures_total",
                                           "Attempts to hand trajectories in that failed.")),
      weights_refused_(registry.GetCounter("rollcall_rollout_weights_refused_total",
                                           "Published weights that failed verification.")),
      lease_seconds_(registry.GetHistogram("rollcall_rollout_lease_seconds",
                                           "Time from taking a lease to handing its answer in.",
                                           LatencyBuckets())),
      fetch_shared_memory_seconds_(FetchHistogram(registry, "shared_memory")),
      fetch_grpc_seconds_(FetchHistogram(registry, "grpc")),
      switch_seconds_(registry.GetHistogram(
          "rollcall_rollout_switch_seconds",
          "Time from seeing a version's manifest to being allowed to sample with it.",
          LatencyBuckets())),
      policy_version_(registry.GetGauge("rollcall_rollout_policy_version",
                                        "Policy version that was loaded last.")) {}

void RolloutMetrics::Occupancy(size_t running, size_t waiting, int64_t blocks_used,
                               int64_t blocks_total) {
  running_.Set(static_cast<double>(running));
  waiting_.Set(static_cast<double>(waiting));
  blocks_used_.Set(static_cast<double>(blocks_used));
  blocks_total_.Set(static_cast<double>(blocks_total));
  kv_usage_.Set(blocks_total == 0
                    ? 0.0
                    : static_cast<double>(blocks_used) / static_cast<double>(blocks_total));
}

void RolloutMetrics::LeaseSubmitted(double seconds) {
  leases_submitted_.Increment();
  lease_seconds_.Observe(seconds);
}

void RolloutMetrics::WeightsFetched(const std::string& transport, double seconds) {
  (transport == "shared_memory" ? fetch_shared_memory_seconds_ : fetch_grpc_seconds_)
      .Observe(seconds);
}

void RolloutMetrics::Switched(int64_t policy_version, double seconds) {
  policy_version_.Set(static_cast<double>(policy_version));
  switch_seconds_.Observe(seconds);
}

}  // namespace rollcall
