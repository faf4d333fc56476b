// Hands finished leases in, one after the other, until the coordinator has taken them, has refused
// them, or nobody waits for them any more.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollout_worker/lease_codec.h"
#include "rollout_worker/metrics.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Thread-safe.
class TrajectorySubmitter {
 public:
  struct Events {
    // A lease was taken or given up. Called on the submitter's thread, without its lock.
    std::function<void()> on_progress;
    // The coordinator knows this worker id no more.
    std::function<void(const std::string& worker_id)> on_fenced;
  };

  // An answer is offered until `grace` after its lease's deadline. What it borrows must outlive it.
  TrajectorySubmitter(const std::shared_ptr<grpc::Channel>& coordinator, absl::Duration grace,
                      Events events, RolloutMetrics& metrics, Logger& logger, const Clock& clock);
  // Waits for what is under way; what waits is handed in, too, unless a farewell is over.
  ~TrajectorySubmitter();

  void Add(LeasedSamples lease) ABSL_LOCKS_EXCLUDED(mu_);
  // Leases that wait; how many were dropped.
  size_t DropIf(const std::function<bool(const LeasedSamples&)>& drop) ABSL_LOCKS_EXCLUDED(mu_);
  size_t num_waiting() const ABSL_LOCKS_EXCLUDED(mu_);

  // From `time` on answers that the coordinator does not take at once are given up. Blocks until
  // everything is handed in or given up.
  void Finish(absl::Time time) ABSL_LOCKS_EXCLUDED(mu_);
  // Idempotent; not from a callback.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  void Submit(const LeasedSamples& lease) ABSL_LOCKS_EXCLUDED(mu_);
  // False: there is no time for another attempt.
  bool WaitForAttempt(int attempt) ABSL_LOCKS_EXCLUDED(mu_);

  const std::unique_ptr<v1::ExperienceService::Stub> experience_;
  const absl::Duration grace_;
  const Events events_;
  RolloutMetrics& metrics_;
  Logger& logger_;
  const Clock& clock_;

  mutable Mutex mu_;
  CondVar changed_;
  std::deque<LeasedSamples> waiting_ ABSL_GUARDED_BY(mu_);
  bool is_submitting_ ABSL_GUARDED_BY(mu_) = false;
  bool is_stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time farewell_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();

  std::jthread thread_;  // last: starts when everything above exists
};

}  // namespace rollcall
