// The rollout worker: pulls prompt leases, has the engine sample them, hands trajectories in.
//
//   leased -> waits for weights -> sampling -> finished -> submitted
//      '------ dropped: past its deadline, fenced (ABORTED), or its job ended
//
// Threads: one polls for leases, one loads weights (PolicyLoader), one computes (EngineLoop), one
// submits (TrajectorySubmitter). Pull is the only backpressure: leases are asked for while fewer
// samples are held than the engine takes plus a little, so that what this worker cannot start is
// left to others.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/lease_codec.h"
#include "rollout_worker/metrics.h"
#include "rollout_worker/policy_loader.h"
#include "rollout_worker/trajectory_submitter.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/fleet/fleet_client.h"

namespace rollcall {

struct RolloutOptions {
  EngineLoopOptions engine_loop;
  PolicyLoaderOptions loader;
  // One wait for leases at the coordinator; also the longest time that a stop goes unnoticed.
  absl::Duration poll_wait = absl::Seconds(1);
  // An answer is offered until so long after the lease's deadline.
  absl::Duration submit_grace = absl::Seconds(30);
};

// Another user of the engine loop and of the loaded weights, beside the leases. Its groups and
// tickets are numbered from `first_id` on, which is far beyond any number of leases.
struct RolloutGuest {
  uint64_t first_id = 0;  // 0: there is no guest
  EngineEvents events;
  std::function<void(uint64_t ticket, ModelId)> on_usable;
  std::function<void(uint64_t ticket, const WorkFailure&)> on_failed;
};

// Thread-safe.
class RolloutService {
 public:
  // What it borrows must outlive it.
  struct Parts {
    std::shared_ptr<grpc::Channel> coordinator;
    FleetClient& fleet;
    MetricsRegistry& metrics;
    Logger& logger;
    const Clock& clock;
    // The coordinator asks this process to leave; called once, from any thread. May be null.
    std::function<void()> on_drain;
    RolloutGuest guest;
    // Of sequences that come from other workers; empty: none come.
    EngineEvents migration_events;
  };
  RolloutService(const RolloutOptions& options, Parts parts);
  // Drains without patience when Drain was not called.
  ~RolloutService();

  // Jobs that ended: their leases, engines and weights are dropped.
  void DropJobs(const std::vector<std::string>& job_ids) ABSL_LOCKS_EXCLUDED(mu_);

  // Takes no more leases, lets held ones finish for up to `patience`, reports the others as
  // infrastructure failures ("draining") and hands everything in. Blocks; idempotent.
  void Drain(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);

  // For the guest: the loop, which lives as long as this object, and PolicyLoader's Want and
  // ModelDropped.
  EngineLoop& engine_loop() { return *engine_loop_; }
  void WantPolicy(uint64_t ticket, const WantedPolicy& wanted, absl::Time deadline) {
    loader_->Want(ticket, wanted, deadline);
  }
  StatusOr<ModelId> FindLoaded(const std::string& job_id, int64_t policy_version) const {
    return loader_->FindLoaded(job_id, policy_version);
  }
  void PolicyDropped(const std::string& job_id, ModelId model) {
    loader_->ModelDropped(job_id, model);
  }

  // Samples that are leased and not finished.
  size_t num_held() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  enum class Stage { kWaitingForWeights, kSampling };
  struct Lease : LeasedSamples {
    size_t num_open = 0;
    Stage stage = Stage::kWaitingForWeights;
    ModelId model = 0;  // from kSampling on
  };

  void PollLoop();
  // Leases to ask for now, at least 1; 0 when the time-out passed without room.
  int WaitForRoom() ABSL_LOCKS_EXCLUDED(mu_);
  void TakeLease(v1::PromptLease proto, const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mu_);
  void PausePolling(absl::Duration time) ABSL_LOCKS_EXCLUDED(mu_);

  void ReportLoads(const std::vector<JobLoad>& loads);
  bool IsOfGuest(uint64_t id) const { return guest_.first_id > 0 && id >= guest_.first_id; }
  void OnUsable(uint64_t id, ModelId model) ABSL_LOCKS_EXCLUDED(mu_);
  void OnSamples(std::vector<CompletedSample> samples) ABSL_LOCKS_EXCLUDED(mu_);
  void OnGroupFailed(uint64_t id, const Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  void FailLease(uint64_t id, std::optional<WorkFailure> failure) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(Lease* lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Everything leased under this void worker id is dropped.
  void DropLeasesOf(const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mu_);
  void DropLeasesIf(const std::function<bool(const LeasedSamples&)>& drop) ABSL_LOCKS_EXCLUDED(mu_);
  void WakeUp() ABSL_LOCKS_EXCLUDED(mu_);

  void UpdatePhase() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RolloutOptions options_;
  const size_t max_held_;
  const std::unique_ptr<v1::ExperienceService::Stub> experience_;
  FleetClient& fleet_;
  Logger& logger_;
  const Clock& clock_;
  const std::function<void()> on_drain_;
  const RolloutGuest guest_;
  RolloutMetrics metrics_;

  mutable Mutex mu_;
  CondVar changed_;
  // Unfinished leases by number; the number is also the engine's group id and the loader's ticket.
  std::unordered_map<uint64_t, Lease> leases_ ABSL_GUARDED_BY(mu_);
  size_t num_held_ ABSL_GUARDED_BY(mu_) = 0;                 // open samples of leases_
  size_t num_waiting_for_weights_ ABSL_GUARDED_BY(mu_) = 0;  // leases
  size_t samples_per_lease_ ABSL_GUARDED_BY(mu_) = 8;        // as last seen
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::string phase_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;

  std::unique_ptr<EngineLoop> engine_loop_;
  std::unique_ptr<PolicyLoader> loader_;
  std::unique_ptr<TrajectorySubmitter> submitter_;
  std::jthread poll_thread_;
};

}  // namespace rollcall
