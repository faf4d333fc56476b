// The engine thread: one engine per job, all stepped in turn by one thread. Other threads post
// commands; what happens comes back through callbacks on the engine thread.
//
//   AddModel, AddGroup, Abort, DropJob --inbox--> [apply, expire, one step of every engine] -->
//   events
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollout_worker/engine/engine.h"
#include "rollout_worker/metrics.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// A version of a job's policy that is ready to run.
struct UsableModel {
  std::string job_id;
  ModelConfig config;
  ModelId id = 0;  // never used twice in this process, growing
  int64_t policy_version = 0;
  std::shared_ptr<const RunnableModel> model;
  // What groups of older versions do on SwitchGroups.
  UpdateMode update_mode = UpdateMode::kDrain;
};

struct GroupWork {
  std::string job_id;
  absl::Time deadline;
  GroupRequest request;  // group_id is unique in this process
};

// What the engine of a job carries.
struct JobLoad {
  std::string job_id;
  int64_t policy_version = 0;  // of the newest model
  double freeness = 0;         // scheduler/freeness.h
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int32_t num_used_blocks = 0;
  int32_t num_blocks = 0;
};

// Run on the engine thread with no lock held; they must be quick and may post commands.
struct EngineEvents {
  // Tokens of streaming groups, before the on_samples that ends them. May be null.
  std::function<void(std::vector<StreamedTokens>)> on_tokens;
  std::function<void(std::vector<CompletedSample>)> on_samples;
  // The group cannot start (Engine::AddGroup's codes; kFailedPrecondition: no engine could be made
  // for the job), or was aborted at its deadline (kDeadlineExceeded).
  std::function<void(uint64_t group_id, const Status&)> on_group_failed;
  std::function<void()> on_step;
  // Now and then: what every engine carries. May be null.
  std::function<void(std::vector<JobLoad>)> on_loads;
};

// One loop, several users: each hears of the groups from its first id on, up to the next user's
// first id. Sorted by id; every step is told to all.
EngineEvents SplitByGroup(std::vector<std::pair<uint64_t, EngineEvents>> users);

// A sequence that comes from another worker.
struct AdoptWork {
  std::string job_id;
  absl::Time deadline;
  ReservationId reservation = 0;
  SequenceState state;
};

struct EngineLoopOptions {
  EngineOptions engine;  // of every job
  // An engine without work for this long gives its memory back.
  absl::Duration idle_job_timeout = absl::Minutes(10);
};

// Thread-safe. The inbox is bounded by what its callers hold: one group per lease, one model per
// published version.
class EngineLoop {
 public:
  EngineLoop(const EngineLoopOptions& options, EngineEvents events, MetricsRegistry& registry,
             RolloutMetrics& metrics, Logger& logger, const Clock& clock);
  ~EngineLoop();
  // Ends the thread; groups that are not done are dropped without an event, and so is everything
  // posted later. Idempotent; not from the engine thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  void AddModel(UsableModel model);
  void AddGroup(GroupWork work);
  void Abort(uint64_t group_id);
  // The job's groups that are not pinned go on with this model in its update mode; nothing happens
  // when it is not loaded.
  void SwitchGroups(const std::string& job_id, ModelId model);
  // While paused the engines of all jobs compute nothing.
  void SetPaused(bool is_paused);
  void DropJob(const std::string& job_id);
  // Runs `call` on the engine thread between two steps; its engine is null when the job has none.
  // It must be quick. After Stop it is dropped without being run.
  void RunOn(const std::string& job_id, std::function<void(Engine*)> call);
  // Engine::Adopt; `done` runs on the engine thread, before the sequence's first event.
  void Adopt(AdoptWork work, std::function<void(const Status&)> done);
  // Engine::Deliver, with its events; `done` runs on the engine thread.
  void Deliver(const std::string& job_id, uint64_t group_id, int32_t index, SampledTokens tokens,
               std::optional<CompletionEnd> end, std::function<void(const Status&)> done);
  // Tells the loop what an idle engine is waiting for: weights of work that is leased already.
  void SetWaitingForWeights(bool waiting) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct JobEngine {
    std::unique_ptr<Engine> engine;
    Status status;  // why there is no engine
    UpdateMode update_mode = UpdateMode::kDrain;
    absl::Time last_used;
  };
  struct LiveGroup {
    std::string job_id;
    absl::Time deadline;
    size_t num_open = 0;
  };

  void Post(std::function<void()> command) ABSL_LOCKS_EXCLUDED(mu_);
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for commands when there is no other work; false when the loop shall end.
  bool TakeCommands(std::vector<std::function<void()>>* commands) ABSL_LOCKS_EXCLUDED(mu_);
  void StepAll();
  // Books and reports what happened in an engine.
  void Report(StepResult result);
  void ReportOccupancy();
  void ExpireGroups();
  void DropIdleJobs();
  bool HasWork() const;
  void DoAddModel(UsableModel model);
  void DoAddGroup(GroupWork work);
  void DoAbort(uint64_t group_id);

  const EngineLoopOptions options_;
  const EngineEvents events_;
  const EngineMetrics engine_metrics_;
  RolloutMetrics& metrics_;
  Logger& logger_;
  const Clock& clock_;

  // Of the engine thread.
  std::map<std::string, JobEngine> jobs_;
  std::unordered_map<uint64_t, LiveGroup> groups_;
  absl::Time next_deadline_ = absl::InfiniteFuture();
  absl::Time next_load_report_ = absl::InfinitePast();
  bool is_paused_ = false;

  Mutex mu_;
  CondVar posted_;
  std::vector<std::function<void()>> inbox_ ABSL_GUARDED_BY(mu_);
  bool waiting_for_weights_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::jthread thread_;  // last: starts when everything above exists
};

}  // namespace rollcall
