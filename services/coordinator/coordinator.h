// The core with a lock, a clock and a journal around it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "rollcall/v1/coordinator.pb.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/coordinator/core.h"

namespace rollcall::coordinator {

// Thread-safe. Clock, journal and the environment are borrowed.
class Coordinator {
 public:
  Coordinator(const CoreOptions& options, JobEnvironment environment, Journal& journal,
              const Clock& clock);

  // Rebuilds every job from the store; call before anything else. A job whose files changed or
  // went missing meanwhile is failed with that reason.
  Status Recover(SqliteStore& store);

  // One turn: runs fn on the locked core, settles, hands the records to the journal in order, and
  // then does outside the lock what is left to do. After Stop, does nothing.
  void Do(const std::function<void(Core&, Turn&)>& fn) ABSL_LOCKS_EXCLUDED(mu_);
  // Expires leases, heartbeats and waits; call every 20 ms or so.
  void Tick();
  // Refuses everything from now on and drops the calls that wait.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  // Checks and admits a job. Reads files; call on a worker thread.
  void SubmitJob(const v1::SubmitJobRequest& request, Call<v1::SubmitJobResponse> call);
  void InspectSamples(const v1::InspectSamplesRequest& request,
                      Call<v1::InspectSamplesResponse> call);
  // Committed steps of a job from the journal, at most `limit`, on the journal's thread.
  void ReadSteps(JobNumber job, int64_t from_step, int64_t limit,
                 std::function<void(StatusOr<std::vector<StepRecord>>)> done);
  // Fails a job from outside, e.g. because its run directory cannot be written.
  void FailJob(JobNumber job, const std::string& reason);

 private:
  Status PrepareAndAdd(const v1::SubmitJobRequest& request, JobNumber job,
                       Call<v1::SubmitJobResponse>& call);

  const Clock& clock_;
  Journal& journal_;
  Logger& logger_;

  mutable Mutex mu_;
  Core core_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace rollcall::coordinator
