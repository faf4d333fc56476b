// What the rollout worker around the engine tells about itself. Methods are events.
#pragma once

#include <cstdint>
#include <string>

#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class RolloutMetrics {
 public:
  explicit RolloutMetrics(MetricsRegistry& registry);

  void Occupancy(size_t running, size_t waiting, int64_t blocks_used, int64_t blocks_total);
  // The engine had nothing to do for this long: no work was leased, or its weights were not there.
  void WaitedForLeases(double seconds) { wait_leases_.Increment(seconds); }
  void WaitedForWeights(double seconds) { wait_weights_.Increment(seconds); }

  void LeaseSubmitted(double seconds);
  void LeaseDropped() { leases_dropped_.Increment(); }
  void SamplesFailed(int count) { samples_failed_.Increment(count); }
  void SubmitFailed() { submit_failures_.Increment(); }
  void HeldSequences(size_t count) { held_sequences_.Set(static_cast<double>(count)); }

  void WeightsFetched(const std::string& transport, double seconds);
  void WeightsRefused() { weights_refused_.Increment(); }
  void Switched(int64_t policy_version, double seconds);

 private:
  Gauge& running_;
  Gauge& waiting_;
  Gauge& blocks_used_;
  Gauge& blocks_total_;
  Gauge& kv_usage_;
  Gauge& held_sequences_;
  Counter& wait_leases_;
  Counter& wait_weights_;
  Counter& leases_submitted_;
  Counter& leases_dropped_;
  Counter& samples_failed_;
  Counter& submit_failures_;
  Counter& weights_refused_;
  Histogram& lease_seconds_;
  Histogram& fetch_shared_memory_seconds_;
  Histogram& fetch_grpc_seconds_;
  Histogram& switch_seconds_;
  Gauge& policy_version_;
};

}  // namespace rollcall
