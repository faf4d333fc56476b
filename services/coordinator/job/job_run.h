// One job from submission to its end: its samples, its batches, its learner group, its policy
// versions. The core owns it and calls it inside a turn.
//
//   QUEUED --FormGroup--> RUNNING <--Pause/Resume--> PAUSED
//      '------------------'--'---------> SUCCEEDED | FAILED | CANCELLED
//
//   iteration i:  rows -> board (PENDING ... SCORED) -> batch i+1 -> CommitStep(i+1) -> version i+1
//   version v:    evaluation of v (where scheduled) completes before batch v+1 is handed out, so
//                 that the version under evaluation is always the newest one
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "rollcall/v1/coordinator.pb.h"
#include "rollcall/v1/experience.pb.h"
#include "rollcall/v1/learner.pb.h"
#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/coordinator/experience/batch.h"
#include "services/coordinator/experience/sample_board.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/coordinator/job/run_files.h"
#include "services/coordinator/job/stage_meter.h"
#include "services/coordinator/job/trace.h"
#include "services/coordinator/journal/journal.h"
#include "services/coordinator/lease/prompt_source.h"
#include "services/coordinator/metrics.h"
#include "services/coordinator/policy/policy_table.h"
#include "services/coordinator/turn.h"
#include "services/coordinator/worker/learner_group.h"

namespace rollcall::coordinator {

// Borrowed by every job; must outlive them.
struct JobEnvironment {
  Logger& logger;
  CoordinatorMetrics& metrics;
  RunFiles& files;
};

// Sees the events of one job, on the journal's thread, in order. Must not block.
class JobWatcher {
 public:
  virtual ~JobWatcher() = default;
  virtual void OnEvent(std::shared_ptr<const v1::JobEvent> event) = 0;
  // The watcher left; it may be dropped.
  virtual bool closed() const = 0;
};

// Prompt samples that a worker may take; the lease is not numbered yet.
struct PromptWork {
  v1::PromptLease lease;
  std::vector<SampleId> samples;
  absl::Duration timeout;
};

// A sample to score. The task message is built from it once the core is unlocked.
struct ScoreWork {
  SampleId sample;
  std::shared_ptr<const v1::Trajectory> trajectory;
  std::shared_ptr<const PreparedJob> job;
  absl::Duration timeout;

  const PreparedRow& row() const {
    const PreparedRows& rows =
        sample.purpose == v1::SAMPLE_PURPOSE_EVALUATE ? job->evaluation : job->data;
    return rows.rows[static_cast<size_t>(sample.prompt_id)];
  }
};

// How a sample came back without a result.
struct LostSample {
  SampleId id;
  uint64_t lease = 0;
  v1::Failure failure;
  // Whether it counts against the sample's budget (a worker that leaves in order does not), and
  // whether it waits before it is handed out again (a worker that fails at once would burn the
  // budget in no time).
  enum class Budget { kCounts, kFree } budget = Budget::kCounts;
  enum class Retry { kNow, kBackOff } retry = Retry::kNow;
};

// Not thread-safe.
class JobRun {
 public:
  // A job that was just admitted: QUEUED.
  JobRun(JobRecord record, std::shared_ptr<const PreparedJob> prepared, JobEnvironment environment,
         absl::Time now);
  // A job of an earlier incarnation; `prepared` is null when it ended. Reads the store.
  static StatusOr<std::unique_ptr<JobRun>> Restore(StoredJob stored,
                                                   std::shared_ptr<const PreparedJob> prepared,
                                                   JobEnvironment environment, SqliteStore& store,
                                                   absl::Time now);

  JobNumber number() const { return record_.job; }
  const JobRecord& record() const { return record_; }
  const v1::JobSpec& spec() const { return *record_.spec; }
  v1::JobState state() const { return state_; }
  bool ended() const;
  v1::JobStatus Snapshot(absl::Time now) const;
  int64_t committed_step() const { return committed_; }
  // Null once the job ended.
  const std::shared_ptr<const PreparedJob>& prepared() const { return prepared_; }

  // --- control; kFailedPrecondition when the state does not allow it
  Status Pause(Turn& turn);
  Status Resume(Turn& turn);
  Status Cancel(Turn& turn);
  void Fail(Turn& turn, const std::string& reason);

  // --- learner group
  // Wants a full set of learners now.
  bool wants_group() const { return !ended() && !group_.active(); }
  int32_t ranks_wanted() const { return spec().resources().learner_ranks(); }
  absl::Time waiting_since() const { return waiting_since_; }
  // Names of the last group's ranks: they are preferred, so that a process keeps its rank.
  const std::set<std::string>& last_rank_names() const { return last_rank_names_; }
  void FormGroup(Turn& turn, std::vector<GroupRank> ranks);
  v1::Assignment AssignmentOf(int32_t rank) const;
  // The group cannot go on: fences it, or fails the job after too many times without a commit.
  void LoseGroup(Turn& turn, const std::string& reason);
  // What the job waits for, shown as state_reason.
  void SetWaitReason(const std::string& reason) { wait_reason_ = reason; }
  LearnerGroup& group() { return group_; }
  const LearnerGroup& group() const { return group_; }

  // --- calls of the group's members; kAborted when fenced
  Status OfferPolicy(Turn& turn, const v1::OfferPolicyRequest& request);
  void AcquireBatch(Turn& turn, const v1::AcquireBatchRequest& request, absl::Duration wait,
                    Call<v1::AcquireBatchResponse> call);
  Status CommitStep(Turn& turn, const v1::CommitStepRequest& request);
  Status ReportCheckpoint(Turn& turn, const v1::ReportCheckpointRequest& request);
  Status FinishAssignment(Turn& turn, const v1::FinishAssignmentRequest& request);
  Status StoreSet(Turn& turn, const v1::StoreSetRequest& request);
  void StoreGet(Turn& turn, const v1::StoreGetRequest& request, absl::Duration wait,
                Call<v1::StoreGetResponse> call);
  StatusOr<int64_t> StoreAdd(Turn& turn, const v1::StoreAddRequest& request);

  // --- sampling
  // Samples and prompts that could be leased now.
  struct Pending {
    int64_t prompts = 0;
    int64_t samples = 0;
  };
  Pending PendingPrompts() const;
  bool has_pending_evaluation() const;
  // The first of them, evaluation before training, at most max_samples; none when nothing is
  // pending.
  std::optional<PromptWork> PeekPrompt(int64_t max_samples) const;
  void PromptLeased(Turn& turn, const PromptWork& work, uint64_t lease);
  // `lease` is the one the answer names; the sample may be held by another one by now.
  v1::SubmitResult SubmitTrajectory(Turn& turn, const std::string& worker_name,
                                    v1::Trajectory trajectory, uint64_t lease);
  // Opens the next iteration when workers took everything of the open ones.
  void OpenNext() { OpenBoards(); }
  void CountExpiredLease() { counts_.set_leases_expired(counts_.leases_expired() + 1); }
  // A sample came back without a trajectory.
  void PromptLost(Turn& turn, const LostSample& lost);
  void PromptLeaseEnded(Turn& turn, absl::Time issued, const std::string& worker_name,
                        v1::SamplePurpose purpose, int64_t iteration);

  // --- scoring
  size_t num_waiting_scores() const { return train_scores_.size() + evaluation_scores_.size(); }
  // Takes a sample for scoring: it is SCORING under `lease`.
  std::optional<ScoreWork> TakeScore(Turn& turn, uint64_t lease);
  v1::SubmitResult SubmitScore(Turn& turn, v1::Score score, uint64_t lease);
  void ScoreLost(Turn& turn, const LostSample& lost);
  void ScoreLeaseEnded(Turn& turn, absl::Time issued, const std::string& worker_name,
                       int64_t iteration);

  // --- policy
  void GetManifest(Turn& turn, const v1::GetManifestRequest& request, absl::Duration wait,
                   Call<v1::GetManifestResponse> call);
  Status SubmitReceipt(Turn& turn, const std::string& worker_name,
                       const v1::WeightReceipt& receipt);
  int64_t newest_version() const { return policy_.newest_known(); }

  // --- time
  // Moves everything on that can move; called at the end of every turn that touched the job.
  void Advance(Turn& turn);
  void Tick(Turn& turn);
  // The steps whose batches must be read back from the journal; each is named once.
  std::vector<int64_t> TakeWantedReads();
  void BatchRead(Turn& turn, int64_t step, StatusOr<std::vector<StoredSample>> samples);

  // Drops every call that waits, unanswered.
  void DropWaiters();

  // --- watching
  void AddWatcher(Turn& turn, std::shared_ptr<JobWatcher> watcher);

  // Lines of metrics.jsonl.
  static std::string MetricsLine(const StepRecord& step);
  static std::string MetricsLine(const StoredEvaluation& evaluation);
  std::string metrics_path() const { return record_.run_dir + "/metrics.jsonl"; }

 private:
  struct BatchWaiter {
    int64_t step = 0;
    int32_t rank = 0;
    absl::Time since;
    absl::Time deadline;
    Call<v1::AcquireBatchResponse> call;
  };
  struct StoreWaiter {
    std::string key;
    absl::Time deadline;
    Call<v1::StoreGetResponse> call;
  };
  struct ManifestWaiter {
    int64_t version = 0;
    bool exact = false;
    absl::Time deadline;
    Call<v1::GetManifestResponse> call;
  };
  enum class Kind { kPrompt, kScore };
  struct Delayed {
    absl::Time due;
    SampleId id;
    Kind kind;
    bool operator<(const Delayed& other) const {
      return std::tie(due, id, kind) < std::tie(other.due, other.id, other.kind);
    }
  };
  struct Stages {
    StageMeter sample, score, build, update, publish, evaluate;
  };

  JobRun(JobRecord record, std::shared_ptr<const PreparedJob> prepared, JobEnvironment environment);

  int64_t total_steps() const { return spec().train().total_steps(); }
  int64_t max_staleness() const { return spec().sync().max_staleness(); }
  bool exact_versions() const { return max_staleness() == 0; }
  bool running() const { return state_ == v1::JOB_STATE_RUNNING; }
  std::string name() const { return JobId(record_.job); }

  // recovery
  Status RestoreProgress(SqliteStore& store);
  Status RestoreSamples(SqliteStore& store);
  void RestoreSample(SampleBoard& board, const StoredSample& stored);

  // state
  void End(Turn& turn, v1::JobState state, const std::string& reason);
  void RecordStatus(Turn& turn);
  void Emit(Turn& turn, v1::JobEvent event);
  void WriteTrace();

  // sampling
  SampleBoard* BoardOf(const SampleId& id);
  const PreparedRows& RowsOf(v1::SamplePurpose purpose) const;
  bool Dispatchable(const SampleBoard& board) const;
  void QueueScore(const SampleId& id);
  void OpenBoards();
  void OpenEvaluation(Turn& turn);
  bool EvaluationWanted(int64_t version) const;
  void SettleFailed(Turn& turn, SampleBoard& board, const SampleId& id, const v1::Failure& failure);
  v1::SubmitResult Reject(Turn& turn, const SampleId& id, uint64_t lease,
                          const std::string& message);
  Status CheckDoor(const std::string& worker_name, const v1::Trajectory& trajectory,
                   const SampleId& id);
  void FinishEvaluation(Turn& turn);
  // Fails the job when too many scores of a complete board failed.
  bool TooManyFailures(Turn& turn, const SampleBoard& board);

  // training
  void FormBatches(Turn& turn);
  bool ExpireStale(Turn& turn, SampleBoard& board);
  void AddBatch(Turn& turn, FormedBatch batch);
  FormedBatch DatasetBatch(Turn& turn, int64_t step);
  void DropOldBatches(Turn& turn);
  void AnswerBatchWaiters(Turn& turn);
  // False: the waiter goes on waiting.
  bool AnswerBatch(Turn& turn, const BatchWaiter& waiter);
  void CommitNew(Turn& turn, const v1::CommitStepRequest& request);
  Status OfferManifest(Turn& turn, const v1::WeightManifest& manifest, int64_t version);
  Status CheckMember(const v1::GroupMember& member, int32_t only_rank);
  void EmitSample(Turn& turn, const FormedBatch& batch);
  bool AllEvaluated(int64_t version) const;

  // group and policy
  void FenceGroup(Turn& turn, const std::string& reason);
  void AnswerStoreWaiters(Turn& turn, const std::string& key);
  void AnswerManifestWaiters(Turn& turn);

  // Constant after construction.
  const JobRecord record_;
  const JobEnvironment environment_;
  v1::SamplingParams sampling_;  // of training samples, without stop tokens

  std::shared_ptr<const PreparedJob> prepared_;
  v1::JobState state_ = v1::JOB_STATE_QUEUED;
  std::string reason_;       // of an ended job
  std::string wait_reason_;  // of a job that waits
  absl::Time submitted_at_;
  absl::Time started_at_;
  absl::Time ended_at_;
  v1::SampleCounts counts_;
  int64_t committed_ = 0;
  int64_t optimizer_updates_ = 0;
  std::map<std::string, double> last_metrics_;
  std::map<int64_t, StoredEvaluation> evaluations_;
  std::deque<absl::Time> commit_times_;
  Stages stages_;
  Trace trace_;
  absl::Time trace_written_;
  absl::Time status_sent_;

  std::optional<PromptSource> source_;
  std::map<int64_t, SampleBoard> boards_;
  int64_t next_board_ = 0;
  std::optional<SampleBoard> evaluation_;
  std::deque<SampleId> train_scores_;
  std::deque<SampleId> evaluation_scores_;
  std::set<Delayed> delayed_;

  // Newest formed batch, and those held in memory.
  int64_t formed_ = 0;
  std::map<int64_t, std::shared_ptr<const FormedBatch>> batches_;
  std::map<int64_t, int64_t> batch_samples_;  // formed but not committed
  std::set<int64_t> wanted_reads_;
  std::set<int64_t> running_reads_;
  std::vector<BatchWaiter> batch_waiters_;

  LearnerGroup group_;
  StoredCheckpoint checkpoint_;
  absl::Time waiting_since_;
  std::set<std::string> last_rank_names_;
  int reforms_without_commit_ = 0;
  std::vector<StoreWaiter> store_waiters_;

  PolicyTable policy_;
  std::vector<ManifestWaiter> manifest_waiters_;
  std::vector<std::shared_ptr<JobWatcher>> watchers_;
};

}  // namespace rollcall::coordinator
