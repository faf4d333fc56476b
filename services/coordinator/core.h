// The coordinator's decisions: a deterministic state machine over calls and ticks, without threads,
// locks, files or RPC.
//
//   call or Tick -> Core (state, Turn) -> Settle(turn) -> journal records, replies, file writes
//
// Coordinator (coordinator.h) puts a lock around it; simulations drive it directly. The methods are
// in core.cc (turns), core_fleet.cc, core_leases.cc, core_learners.cc and core_jobs.cc.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollcall/v1/coordinator.pb.h"
#include "rollcall/v1/experience.pb.h"
#include "rollcall/v1/fleet.pb.h"
#include "rollcall/v1/learner.pb.h"
#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/coordinator/job/job_run.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/coordinator/job/run_files.h"
#include "services/coordinator/journal/journal.h"
#include "services/coordinator/lease/lease_table.h"
#include "services/coordinator/metrics.h"
#include "services/coordinator/turn.h"
#include "services/coordinator/worker/registry.h"
#include "services/coordinator/worker/rescheduler.h"

namespace rollcall::coordinator {

struct CoreOptions {
  RegistryOptions registry;
  ReschedulerOptions rescheduler;
  // Counts the coordinator's starts over one journal, so that ids are never reused.
  int64_t incarnation = 1;
  size_t max_active_jobs = 1000;
  size_t max_ended_jobs_listed = 1000;
  size_t max_waiting_calls = 100'000;
  // Longest wait of a call, whatever it asks for.
  absl::Duration max_wait = absl::Seconds(60);
};

// Not thread-safe. Every public method with a Turn is followed by Settle in the same turn.
class Core {
 public:
  // The environment and the journal are borrowed. The journal is asked for reads and for
  // congestion only; records travel in the turn.
  Core(const CoreOptions& options, JobEnvironment environment, Journal& journal);

  // Recovery, before the first turn. Jobs come in the order of their numbers; `prepared` is null
  // for a job that ended.
  Status RestoreJob(StoredJob stored, std::shared_ptr<const PreparedJob> prepared,
                    SqliteStore& store, absl::Time now);
  void FailJob(Turn& turn, JobNumber job, const std::string& reason);

  // --- fleet
  StatusOr<v1::RegisterResponse> Register(Turn& turn, const v1::RegisterRequest& request);
  StatusOr<v1::HeartbeatResponse> Heartbeat(Turn& turn, const v1::HeartbeatRequest& request);
  Status Leave(Turn& turn, const v1::LeaveRequest& request);

  // --- experience and policy
  void LeasePrompts(Turn& turn, const v1::LeasePromptsRequest& request,
                    Call<v1::LeasePromptsResponse> call);
  void SubmitTrajectories(Turn& turn, v1::SubmitTrajectoriesRequest request,
                          Call<v1::SubmitTrajectoriesResponse> call);
  void LeaseScores(Turn& turn, const v1::LeaseScoresRequest& request,
                   Call<v1::LeaseScoresResponse> call);
  void SubmitScores(Turn& turn, v1::SubmitScoresRequest request,
                    Call<v1::SubmitScoresResponse> call);
  StatusOr<v1::GetJobSpecResponse> GetJobSpec(const v1::GetJobSpecRequest& request);
  void GetManifest(Turn& turn, const v1::GetManifestRequest& request,
                   Call<v1::GetManifestResponse> call);
  void SubmitReceipt(Turn& turn, const v1::SubmitReceiptRequest& request,
                     Call<v1::SubmitReceiptResponse> call);

  // --- learners
  void AcquireAssignment(Turn& turn, const v1::AcquireAssignmentRequest& request,
                         Call<v1::AcquireAssignmentResponse> call);
  void OfferPolicy(Turn& turn, const v1::OfferPolicyRequest& request,
                   Call<v1::OfferPolicyResponse> call);
  void AcquireBatch(Turn& turn, const v1::AcquireBatchRequest& request,
                    Call<v1::AcquireBatchResponse> call);
  void CommitStep(Turn& turn, const v1::CommitStepRequest& request,
                  Call<v1::CommitStepResponse> call);
  void ReportCheckpoint(Turn& turn, const v1::ReportCheckpointRequest& request,
                        Call<v1::ReportCheckpointResponse> call);
  void FinishAssignment(Turn& turn, const v1::FinishAssignmentRequest& request,
                        Call<v1::FinishAssignmentResponse> call);
  void StoreSet(Turn& turn, const v1::StoreSetRequest& request, Call<v1::StoreSetResponse> call);
  void StoreGet(Turn& turn, const v1::StoreGetRequest& request, Call<v1::StoreGetResponse> call);
  void StoreAdd(Turn& turn, const v1::StoreAddRequest& request, Call<v1::StoreAddResponse> call);

  // --- jobs
  // What a submit has to do next. A new job has a number reserved, and must end in AddJob or
  // AbandonSubmit.
  struct Submission {
    JobNumber job = 0;
    // Set when the same request was served before: the answer.
    bool known = false;
    std::string run_dir;
  };
  // kResourceExhausted: too many active jobs; kUnavailable: the same request is being served.
  StatusOr<Submission> BeginSubmit(Turn& turn, const std::string& request_id);
  void AbandonSubmit(Turn& turn, const std::string& request_id);
  void AddJob(Turn& turn, JobRecord record, std::shared_ptr<const PreparedJob> prepared,
              Call<v1::SubmitJobResponse> call);
  v1::ListJobsResponse ListJobs(absl::Time now) const;
  StatusOr<v1::GetJobResponse> GetJob(absl::Time now, const std::string& job_id) const;
  enum class Control { kPause, kResume, kCancel };
  void ControlJob(Turn& turn, Control control, const v1::ControlJobRequest& request,
                  Call<v1::ControlJobResponse> call);
  Status WatchJob(Turn& turn, const std::string& job_id, std::shared_ptr<JobWatcher> watcher);
  v1::GetClusterResponse GetCluster(absl::Time now) const;
  // Spec and prepared job (null when ended) for those who read its samples.
  struct JobSource {
    JobNumber job = 0;
    std::shared_ptr<const v1::JobSpec> spec;
    std::shared_ptr<const Tokenizer> tokenizer;
  };
  StatusOr<JobSource> FindJobSource(const std::string& job_id) const;

  // Drops every call that waits, unanswered; the transport tells the callers.
  void DropWaiters();

  // --- time and journal
  void Tick(Turn& turn);
  void BatchRead(Turn& turn, JobNumber job, int64_t step,
                 StatusOr<std::vector<StoredSample>> samples);
  // Moves on everything that the turn made possible. The reads of batches that jobs want are
  // returned; the caller has them done and answers by BatchRead.
  struct WantedRead {
    JobNumber job = 0;
    int64_t step = 0;
  };
  std::vector<WantedRead> Settle(Turn& turn);

  // For tests and simulations.
  const JobRun* FindJob(JobNumber job) const;
  size_t num_leases() const { return prompt_leases_.size() + score_leases_.size(); }

 private:
  struct LeaseWaiter {
    std::string worker_id;
    int32_t max = 0;
    absl::Time deadline;
    Call<v1::LeasePromptsResponse> call;
  };
  struct ScoreWaiter {
    std::string worker_id;
    int32_t max = 0;
    absl::Time deadline;
    Call<v1::LeaseScoresResponse> call;
  };
  struct AssignmentWaiter {
    std::string worker_id;
    absl::Time deadline;
    Call<v1::AcquireAssignmentResponse> call;
  };

  JobRun* Find(JobNumber job);
  StatusOr<JobRun*> FindById(const std::string& job_id);
  // The job of a group member's call; marks it touched.
  StatusOr<JobRun*> JobOfMember(Turn& turn, const v1::GroupMember& member);
  absl::Duration WaitOf(const google::protobuf::Duration& wait) const;
  void Touch(const JobRun& run) { touched_.insert(run.number()); }

  // worker
  void RemoveWorker(Turn& turn, const std::string& worker_id, const std::string& cause,
                    const std::string& what, LostSample::Budget budget);
  void Watchdog(Turn& turn);
  // Plans migrations between rollout workers; their next heartbeats are told.
  void Reschedule();
  // The waiting call for leases that is answered next: of the emptiest worker where loads matter.
  std::deque<LeaseWaiter>::iterator NextLeaseWaiter();
  JobRun* GroupOf(const std::string& worker_id);
  absl::Duration StallTimeoutOf(const Worker& worker);

  // leases
  void LosePromptLease(Turn& turn, const Lease& lease, const std::string& reason,
                       const std::string& message, LostSample::Budget budget);
  void LoseScoreLease(Turn& turn, const Lease& lease, const std::string& reason,
                      const std::string& message, LostSample::Budget budget);
  void PromptSampleAnswered(Turn& turn, uint64_t lease, const SampleId& id);
  void ScoreSampleAnswered(Turn& turn, uint64_t lease, const SampleId& id);
  std::string NameOf(const std::string& worker_id);
  void ServeLeaseWaiters(Turn& turn);
  std::vector<v1::PromptLease> TakePrompts(Turn& turn, const LeaseWaiter& waiter);
  JobRun* NextPromptJob();
  void ServeScoreWaiters(Turn& turn);
  void FormGroups(Turn& turn);
  bool FormGroup(Turn& turn, JobRun& run);
  void ExplainWaits();
  void AnswerOverdue(Turn& turn);
  void EndJob(Turn& turn, JobRun& run);
  void UpdateGauges();

  const CoreOptions options_;
  const JobEnvironment environment_;
  Journal& journal_;

  Registry registry_;
  std::map<JobNumber, std::unique_ptr<JobRun>> active_;
  std::map<JobNumber, std::unique_ptr<JobRun>> ended_;
  JobNumber next_job_ = 1;
  std::map<std::string, JobNumber> job_of_request_;
  std::set<std::string> submitting_;
  std::vector<std::string> ended_job_ids_;
  std::set<JobNumber> touched_;

  LeaseTable prompt_leases_;
  LeaseTable score_leases_;
  JobNumber last_prompt_job_ = 0;
  JobNumber last_score_job_ = 0;
  std::deque<LeaseWaiter> lease_waiters_;
  std::deque<ScoreWaiter> score_waiters_;
  std::deque<AssignmentWaiter> assignment_waiters_;

  absl::Time last_tick_;
  absl::Time last_watchdog_;
};

}  // namespace rollcall::coordinator
