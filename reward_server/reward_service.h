// The reward server at work: takes score tasks from the coordinator, scores them, hands the scores
// in.
//
//   LeaseScores -> [prepare: job, tokens to text, answer] -> ScoreScheduler -> compose
//               -> outbox -> SubmitScores
//
// It holds at most `max_in_flight` tasks; it asks for no more than it has room for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "reward_server/job_catalog.h"
#include "reward_server/metrics.h"
#include "reward_server/scheduler/score_scheduler.h"
#include "reward_server/scoring/composition.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/queue/bounded_queue.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/base/sync/mutex.h"
#include "services/common/fleet/fleet_client.h"

namespace rollcall {

struct RewardOptions {
  int max_in_flight = 1024;
  int max_lease_tasks = 128;    // in one call
  int max_submit_scores = 128;  // in one call
  // How long the coordinator may keep a call that finds no work.
  absl::Duration lease_wait = absl::Seconds(1);
  int prepare_threads = 2;
  ScoreSchedulerOptions scheduler;
  ScorerEnvironment environment;
};

// What the service needs from its process; all borrowed but the channel.
struct RewardDependencies {
  std::shared_ptr<grpc::Channel> coordinator;
  FleetClient& fleet;
  MetricsRegistry& metrics;
  Logger& logger;
  const Clock& clock;
  // Called once when the coordinator asks this process to stop.
  std::function<void()> on_drain;
};

// Thread-safe. Works from construction on.
class RewardService {
 public:
  RewardService(const RewardOptions& options, RewardDependencies dependencies);
  ~RewardService();  // Drain() without time to finish
  RewardService(const RewardService&) = delete;
  RewardService& operator=(const RewardService&) = delete;

  // Jobs that ended: what is known about them is dropped.
  void DropJobs(const std::vector<std::string>& job_ids);

  // Takes no more tasks, finishes and hands in those that are held, at most for `timeout`. What is
  // left is given up: its leases expire or are handed back by leaving the fleet. Idempotent.
  void Drain(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Sample;
  struct Outgoing {
    v1::LeasedScore score;
    absl::Time deadline;  // of the lease
  };

  void RunFetch() ABSL_LOCKS_EXCLUDED(mu_);
  void RunSubmit() ABSL_LOCKS_EXCLUDED(mu_);
  // Number of tasks that may be asked for; waits a moment for room. 0 when there is none.
  int WaitForRoom() ABSL_LOCKS_EXCLUDED(mu_);
  Status LeaseOnce(const std::string& worker_id, int max_tasks);
  void Start(v1::ScoreTask task);
  void Prepare(const std::shared_ptr<Sample>& sample);
  void FailSample(const std::shared_ptr<Sample>& sample, ScoreFailure failure);
  void FinishSample(const std::shared_ptr<Sample>& sample, const ScoreResult& reward);
  // Hands the scores in, again and again while a lease of them lasts.
  void Submit(std::vector<Outgoing> batch);
  void LogRefusals(const v1::SubmitScoresResponse& response);
  void TasksLeft(size_t count) ABSL_LOCKS_EXCLUDED(mu_);
  // Sleeps unless the service stops; false when it does.
  bool Pause(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mu_);
  StatusOr<v1::JobSpec> FetchSpec(const std::string& job_id);

  const RewardOptions options_;
  FleetClient& fleet_;
  Logger& logger_;
  const Clock& clock_;
  const std::function<void()> on_drain_;
  RewardMetrics metrics_;
  const std::unique_ptr<v1::ExperienceService::Stub> stub_;
  JobCatalog jobs_;
  BoundedQueue<Outgoing> outbox_;
  std::atomic<bool> giving_up_{false};

  Mutex mu_;
  CondVar changed_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool drained_ ABSL_GUARDED_BY(mu_) = false;
  size_t num_in_flight_ ABSL_GUARDED_BY(mu_) = 0;

  // Last: their threads use the members above. The scheduler outlives those who submit to it.
  std::unique_ptr<ScoreScheduler> scheduler_;
  std::unique_ptr<Executor> prepare_threads_;
  std::thread fetch_thread_;
  std::thread submit_thread_;
};

}  // namespace rollcall
