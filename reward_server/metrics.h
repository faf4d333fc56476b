// What the reward server tells about itself. Methods are events.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "reward_server/scoring/types.h"
#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class RewardMetrics {
 public:
  explicit RewardMetrics(MetricsRegistry& registry);

  // --- pipeline
  void WaitedForWork(double seconds) { wait_for_work_.Increment(seconds); }
  void WaitedForRoom(double seconds) { wait_for_room_.Increment(seconds); }
  void InFlight(size_t tasks) { in_flight_.Set(static_cast<double>(tasks)); }
  void TaskDone(const ScoreResult& reward, double seconds);
  void LeaseCallFailed() { lease_failures_.Increment(); }
  void SubmitCallFailed() { submit_failures_.Increment(); }
  // The lease ended before the score could be handed in, or the coordinator refused the batch.
  void ScoresDropped(size_t count) { dropped_.Increment(static_cast<double>(count)); }

  // --- scheduler
  void Scored(const std::string& scorer, double seconds);
  void ScoreFailed(const ScoreFailure& failure);
  void CacheHit() { cache_hits_.Increment(); }
  void CacheMiss() { cache_misses_.Increment(); }
  void CacheSize(uint64_t bytes) { cache_bytes_.Set(static_cast<double>(bytes)); }
  // Joined a score of the same content that is under way.
  void Deduplicated() { deduplicated_.Increment(); }
  void Retried() { retries_.Increment(); }
  void Shed() { shed_.Increment(); }
  void QueueDepth(size_t depth) { queue_depth_.Set(static_cast<double>(depth)); }
  // Number of breakers in each state: closed, open, half-open.
  void Breakers(const std::array<int, 3>& counts);

 private:
  MetricsRegistry& registry_;
  Counter& wait_for_work_;
  Counter& wait_for_room_;
  Gauge& in_flight_;
  Counter& tasks_value_;
  Counter& tasks_data_;
  Counter& tasks_infrastructure_;
  Histogram& task_seconds_;
  Counter& lease_failures_;
  Counter& submit_failures_;
  Counter& dropped_;
  Counter& cache_hits_;
  Counter& cache_misses_;
  Gauge& cache_bytes_;
  Counter& deduplicated_;
  Counter& retries_;
  Counter& shed_;
  Gauge& queue_depth_;
  std::array<Gauge*, 3> breakers_;
};

}  // namespace rollcall
