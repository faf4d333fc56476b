// One assignment, from loading the model to finishing the job.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/common/fleet/fleet_client.h"
#include "services/common/rpc/client.h"
#include "services/weight_sync/weight_store.h"
#include "trainer/learner/learner.h"
#include "trainer/learner_metrics.h"

namespace rollcall {

struct AssignmentOptions {
  // One wait for work at the coordinator.
  absl::Duration poll_wait = absl::Seconds(2);
  // Calls are repeated for this long while the coordinator cannot be reached.
  absl::Duration coordinator_patience = absl::Minutes(5);
  // Address that the other ranks reach this one at.
  std::string interface_address = "127.0.0.1";
};

class AssignmentRun {
 public:
  // All borrowed.
  struct Parts {
    v1::LearnerService::Stub& stub;
    FleetClient& fleet;
    WeightStore& weights;
    LearnerMetrics& metrics;
    Logger& logger;
    const Clock& clock;
  };
  AssignmentRun(const AssignmentOptions& options, const Parts& parts, const std::string& worker_id,
                v1::Assignment assignment);

  // Until the job is over (OK, FinishAssignment was answered), kAborted: fenced, kCancelled: stop
  // was requested, or a failure. Call once.
  Status Run();

  // Tells the coordinator why this rank gives up. Errors are logged only: it will notice anyway.
  void ReportFailure(const Status& status);

  // From any thread. RequestStop ends the run after the step that is under way. Break ends it
  // soon, with `status`, also in the middle of a collective.
  void RequestStop() { stop_requested_.store(true); }
  void Break(const Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  const v1::GroupMember& member() const { return member_; }

 private:
  bool is_lead() const { return assignment_.rank() == 0; }
  int64_t total_steps() const { return assignment_.spec().train().total_steps(); }

  Status Steps();
  Status TrainOneStep(int64_t step);
  Status MakeTheLearner();
  GroupOptions MakeGroupOptions();
  // The batch of the step, waiting as long as it takes.
  StatusOr<v1::Batch> WaitForBatch(int64_t step);
  StatusOr<v1::WeightManifest> Publish(int64_t version);
  Status Commit(int64_t step, const StepReport& report, const v1::WeightManifest& manifest);
  Status Checkpoint(int64_t step);
  Status Finish();

  Status StoreSet(const std::string& key, const std::string& value);
  StatusOr<std::string> StoreGet(const std::string& key, absl::Duration wait);
  StatusOr<int64_t> StoreAdd(const std::string& key, int64_t amount);

  void EnterPhase(std::string_view phase);
  // Runs fn in the phase; its seconds go to the metrics and, as seconds_<phase>, to the next
  // committed step.
  Status InPhase(std::string_view phase, const std::function<Status()>& fn);
  // OK, or why the run must end.
  Status CheckGoingOn() ABSL_LOCKS_EXCLUDED(mu_);

  // An idempotent call, repeated while the coordinator cannot be reached.
  template <typename Request, typename Response>
  Status CallPatiently(grpc::Status (v1::LearnerService::Stub::*method)(grpc::ClientContext*,
                                                                        const Request&, Response*),
                       const Request& request, Response* response, absl::Duration timeout) {
    const absl::Time deadline = parts_.clock.Now() + options_.coordinator_patience;
    while (true) {
      const Status status = Call(parts_.stub, method, request, response,
                                 {.timeout = timeout, .max_attempts = kAttemptsPerCall});
      if (status.code() != StatusCode::kUnavailable &&
          status.code() != StatusCode::kDeadlineExceeded) {
        return status;
      }
      ROLLCALL_RETURN_IF_ERROR(CheckGoingOn());
      if (parts_.clock.Now() >= deadline) return status;
    }
  }
  static constexpr int kAttemptsPerCall = 5;

  const AssignmentOptions options_;
  const Parts parts_;
  const v1::Assignment assignment_;
  v1::GroupMember member_;
  std::string phase_ = "load";
  std::map<std::string, double> seconds_;  // by phase, since the last commit
  std::atomic<bool> stop_requested_{false};

  std::unique_ptr<Learner> learner_;  // made and used by the thread of Run

  Mutex mu_;
  Learner* interruptible_ ABSL_GUARDED_BY(mu_) = nullptr;  // learner_, once it is there
  Status broken_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
