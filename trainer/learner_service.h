// The learner process: pulls assignments and runs them, step by step.
//
//   idle --AcquireAssignment--> load -> rendezvous -> publish(resume step)
//        -> { wait_batch -> update -> publish, commit -> checkpoint } per step
//        -> wait_batch(total + 1) answered without groups -> FinishAssignment -> idle
//   anywhere: ABORTED (fenced) -> idle at once;  failure -> FinishAssignment(failure) -> idle
//
// Threads: one runs assignments; while one runs, another watches for the fence, so that a rank
// that waits in a collective for a dead or stalled peer leaves it soon.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/common/fleet/fleet_client.h"
#include "services/weight_sync/weight_store.h"
#include "trainer/assignment.h"
#include "trainer/learner_metrics.h"

namespace rollcall {

// Thread-safe.
class LearnerService {
 public:
  // What it borrows must outlive it.
  struct Parts {
    std::shared_ptr<grpc::Channel> coordinator;
    FleetClient& fleet;
    WeightStore& weights;
    MetricsRegistry& metrics;
    Logger& logger;
    const Clock& clock;
  };
  // Starts at once.
  LearnerService(const AssignmentOptions& options, const Parts& parts);
  // Stops without patience when Stop was not called.
  ~LearnerService();

  // Takes no more steps: the running one may finish for up to `patience`, then the assignment is
  // handed back as an infrastructure failure ("stopping"). Blocks; idempotent.
  void Stop(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);

  // Jobs that ended: what runs for them is broken off.
  void DropJobs(const std::vector<std::string>& job_ids) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  StatusOr<std::optional<v1::Assignment>> AcquireAssignment(const std::string& worker_id);
  void RunAssignment(const std::string& worker_id, v1::Assignment assignment)
      ABSL_LOCKS_EXCLUDED(mu_);
  bool stopping() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits a moment, or until Stop.
  void Pause(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mu_);

  const AssignmentOptions options_;
  const Parts parts_;
  const std::unique_ptr<v1::LearnerService::Stub> stub_;
  LearnerMetrics metrics_;

  Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  AssignmentRun* running_ ABSL_GUARDED_BY(mu_) = nullptr;

  std::thread thread_;
};

}  // namespace rollcall
