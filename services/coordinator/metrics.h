// The coordinator's counters. Methods are events.
#pragma once

#include <map>
#include <string>

#include "rollcall/v1/coordinator.pb.h"
#include "rollcall/v1/fleet.pb.h"
#include "rollcall/v1/sample.pb.h"
#include "services/base/metrics/metrics.h"

namespace rollcall::coordinator {

// Thread-safe.
class CoordinatorMetrics {
 public:
  explicit CoordinatorMetrics(MetricsRegistry& registry);

  void PromptLeaseIssued() { prompt_leases_.Increment(); }
  void ScoreLeaseIssued() { score_leases_.Increment(); }
  void PromptLeaseExpired() { prompt_leases_expired_.Increment(); }
  void ScoreLeaseExpired() { score_leases_expired_.Increment(); }
  void PromptLeaseAnswered(double seconds) { prompt_lease_seconds_.Observe(seconds); }
  void ScoreLeaseAnswered(double seconds) { score_lease_seconds_.Observe(seconds); }
  // A sample entered the state.
  void SampleEntered(v1::SampleState state, double count = 1);
  void SampleDuplicate() { duplicates_.Increment(); }
  void SampleRejected() { rejected_.Increment(); }
  void BatchFormed(double max_staleness) { staleness_.Observe(max_staleness); }
  void BatchWaited(double seconds) { batch_wait_seconds_.Observe(seconds); }
  void StepCommitted() { steps_.Increment(); }
  void StepReplayed() { replays_.Increment(); }
  void GroupFenced() { fences_.Increment(); }
  void WorkerLost(const std::string& cause);
  void RowsDropped(double count) { rows_dropped_.Increment(count); }

  void SetJobs(v1::JobState state, double count);
  void SetWorkers(v1::ProcessRole role, double count);
  void SetQueues(double pending_samples, double waiting_scores, double waiting_lease_calls,
                 double held_leases);
  // Newest version over all running jobs.
  void SetPolicyVersion(double version) { policy_version_.Set(version); }

 private:
  MetricsRegistry& registry_;
  Counter& prompt_leases_;
  Counter& score_leases_;
  Counter& prompt_leases_expired_;
  Counter& score_leases_expired_;
  Histogram& prompt_lease_seconds_;
  Histogram& score_lease_seconds_;
  Counter& duplicates_;
  Counter& rejected_;
  Histogram& staleness_;
  Histogram& batch_wait_seconds_;
  Counter& steps_;
  Counter& replays_;
  Counter& fences_;
  Counter& rows_dropped_;
  Gauge& pending_samples_;
  Gauge& waiting_scores_;
  Gauge& waiting_lease_calls_;
  Gauge& held_leases_;
  Gauge& policy_version_;
  std::map<v1::SampleState, Counter*> samples_;
};

}  // namespace rollcall::coordinator
