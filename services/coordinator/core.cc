#include "services/coordinator/core.h"

#include <algorithm>
#include <utility>

namespace rollcall::coordinator {
namespace {

constexpr int32_t kMaxLeasesPerCall = 256;
constexpr int32_t kMaxScoresPerCall = 256;
// Bounds of one answer, well below the transport's.
constexpr uint64_t kMaxAnswerBytes = 16 << 20;
constexpr absl::Duration kWatchdogInterval = absl::Milliseconds(500);
// A tick that comes this late means that this process itself was stopped.
constexpr absl::Duration kLateTick = absl::Seconds(1);
constexpr size_t kEndedJobsTold = 100;
constexpr int kMaxSamplesPerSubmit = 65'536;

v1::Failure Infrastructure(const std::string& reason, const std::string& message) {
  v1::Failure failure;
  failure.set_kind(v1::Failure::KIND_INFRASTRUCTURE);
  failure.set_reason(reason);
  failure.set_message(message);
  return failure;
}

std::string Seconds(absl::Duration duration) {
  return std::to_string(absl::ToInt64Seconds(duration)) + " s";
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Core::Core(const CoreOptions& options, JobEnvironment environment, Journal& journal)
    : options_(options),
      environment_(environment),
      journal_(journal),
      registry_(options.registry, options.incarnation),
      prompt_leases_(static_cast<uint64_t>(options.incarnation) << 40),
      score_leases_(static_cast<uint64_t>(options.incarnation) << 40) {}

Status Core::RestoreJob(StoredJob stored, std::shared_ptr<const PreparedJob> prepared,
                        SqliteStore& store, absl::Time now) {
  const JobNumber number = stored.record.job;
  const std::string request_id = stored.record.request_id;
  ROLLCALL_ASSIGN_OR_RETURN(
      std::unique_ptr<JobRun> run,
      JobRun::Restore(std::move(stored), std::move(prepared), environment_, store, now));
  next_job_ = std::max(next_job_, number + 1);
  if (!request_id.empty()) job_of_request_[request_id] = number;
  if (run->ended()) {
    ended_job_ids_.push_back(JobId(number));
    ended_[number] = std::move(run);
    while (ended_.size() > options_.max_ended_jobs_listed) ended_.erase(ended_.begin());
  } else {
    active_[number] = std::move(run);
    touched_.insert(number);
  }
  return OkStatus();
}

JobRun* Core::Find(JobNumber job) {
  if (const auto found = active_.find(job); found != active_.end()) return found->second.get();
  if (const auto found = ended_.find(job); found != ended_.end()) return found->second.get();
  return nullptr;
}

const JobRun* Core::FindJob(JobNumber job) const { return const_cast<Core*>(this)->Find(job); }

StatusOr<JobRun*> Core::FindById(const std::string& job_id) {
  JobRun* run = Find(ParseJobId(job_id));
  if (run == nullptr) return NotFound("there is no job '" + job_id.substr(0, 64) + "'");
  return run;
}

absl::Duration Core::WaitOf(const google::protobuf::Duration& wait) const {
  return std::clamp(FromProto(wait), absl::ZeroDuration(), options_.max_wait);
}

void Core::FailJob(Turn& turn, JobNumber job, const std::string& reason) {
  JobRun* run = Find(job);
  if (run == nullptr || run->ended()) return;
  run->Fail(turn, reason);
  Touch(*run);
}

std::string Core::NameOf(const std::string& worker_id) {
  const auto worker = registry_.Find(worker_id);
  return worker.ok() ? (*worker)->name : worker_id;
}

// --- fleet

StatusOr<v1::RegisterResponse> Core::Register(Turn& turn, const v1::RegisterRequest& request) {
  // A broken request must not cost the member of that name its place.
  ROLLCALL_RETURN_IF_ERROR(Registry::CheckRequest(request));
  for (const auto& [id, worker] : registry_.workers()) {
    if (worker.name != request.name()) continue;
    RemoveWorker(turn, id, "replaced", "registered again under its name",
                 LostSample::Budget::kCounts);
    break;
  }
  std::string replaced;
  ROLLCALL_ASSIGN_OR_RETURN(Worker * worker, registry_.Register(request, turn.now, &replaced));
  worker->ended_jobs_seen = ended_job_ids_.size() - std::min(ended_job_ids_.size(), kEndedJobsTold);
  environment_.logger.Info("process registered name=" + worker->name + " worker=" + worker->id +
                           " address=" + worker->address);
  v1::RegisterResponse response;
  response.set_worker_id(worker->id);
  *response.mutable_heartbeat_interval() = ToProto(options_.registry.heartbeat_interval);
  *response.mutable_heartbeat_timeout() = ToProto(options_.registry.heartbeat_timeout);
  return response;
}

StatusOr<v1::HeartbeatResponse> Core::Heartbeat(Turn& turn, const v1::HeartbeatRequest& request) {
  ROLLCALL_ASSIGN_OR_RETURN(Worker * worker, registry_.Heartbeat(request, turn.now));
  v1::HeartbeatResponse response;
  for (; worker->ended_jobs_seen < ended_job_ids_.size(); ++worker->ended_jobs_seen) {
    response.add_ended_job_ids(ended_job_ids_[worker->ended_jobs_seen]);
  }
  return response;
}

Status Core::Leave(Turn& turn, const v1::LeaveRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(registry_.Find(request.worker_id()).status());
  RemoveWorker(turn, request.worker_id(), "left", "left the cluster", LostSample::Budget::kFree);
  return OkStatus();
}

JobRun* Core::GroupOf(const std::string& worker_id) {
  for (const auto& [number, run] : active_) {
    if (run->group().RankOf(worker_id)) return run.get();
  }
  return nullptr;
}

void Core::RemoveWorker(Turn& turn, const std::string& worker_id, const std::string& cause,
                        const std::string& what, LostSample::Budget budget) {
  const std::string name = NameOf(worker_id);
  environment_.metrics.WorkerLost(cause);
  environment_.logger.Warning("process is gone name=" + name + " worker=" + worker_id +
                              " cause=" + what);
  const std::string message = name + " " + what;
  for (const Lease& lease : prompt_leases_.TakeOfWorker(worker_id)) {
    LosePromptLease(turn, lease, "worker_lost", message, budget);
  }
  for (const Lease& lease : score_leases_.TakeOfWorker(worker_id)) {
    LoseScoreLease(turn, lease, "worker_lost", message, budget);
  }
  if (JobRun* run = GroupOf(worker_id)) {
    run->LoseGroup(turn, "rank " + std::to_string(*run->group().RankOf(worker_id)) + " (" + name +
                             ") " + what);
    Touch(*run);
  }
  const Status gone = Aborted("worker '" + worker_id + "' " + what + ": register again");
  const auto drop = [&](auto& waiters) {
    std::erase_if(waiters, [&](const auto& waiter) {
      if (waiter.worker_id != worker_id) return false;
      Reply(turn, waiter.call, gone);
      return true;
    });
  };
  drop(lease_waiters_);
  drop(score_waiters_);
  drop(assignment_waiters_);
  registry_.Remove(worker_id);
}

// --- leases

void Core::LosePromptLease(Turn& turn, const Lease& lease, const std::string& reason,
                           const std::string& message, LostSample::Budget budget) {
  const SampleId& first = lease.samples.front();
  JobRun* run = Find(first.job);
  if (run == nullptr) return;
  for (const SampleId& id : lease.samples) {
    run->PromptLost(turn, {.id = id,
                           .lease = lease.number,
                           .failure = Infrastructure(reason, message),
                           .budget = budget});
  }
  run->PromptLeaseEnded(turn, lease.issued, NameOf(lease.worker_id), first.purpose,
                        first.iteration);
  if (budget == LostSample::Budget::kCounts) run->CountExpiredLease();
  environment_.metrics.PromptLeaseExpired();
  Touch(*run);
}

void Core::LoseScoreLease(Turn& turn, const Lease& lease, const std::string& reason,
                          const std::string& message, LostSample::Budget budget) {
  const SampleId& id = lease.samples.front();
  JobRun* run = Find(id.job);
  if (run == nullptr) return;
  run->ScoreLost(turn, {.id = id,
                        .lease = lease.number,
                        .failure = Infrastructure(reason, message),
                        .budget = budget});
  run->ScoreLeaseEnded(turn, lease.issued, NameOf(lease.worker_id), id.iteration);
  environment_.metrics.ScoreLeaseExpired();
  Touch(*run);
}

void Core::PromptSampleAnswered(Turn& turn, uint64_t number, const SampleId& id) {
  const Lease* lease = prompt_leases_.Find(number);
  if (lease == nullptr) return;
  const bool last = lease->samples.size() == 1 && lease->samples.front() == id;
  if (last) {
    environment_.metrics.PromptLeaseAnswered(absl::ToDoubleSeconds(turn.now - lease->issued));
    if (JobRun* run = Find(id.job)) {
      run->PromptLeaseEnded(turn, lease->issued, NameOf(lease->worker_id), id.purpose,
                            id.iteration);
    }
  }
  prompt_leases_.Settle(number, id);
}

void Core::ScoreSampleAnswered(Turn& turn, uint64_t number, const SampleId& id) {
  const Lease* lease = score_leases_.Find(number);
  if (lease == nullptr || lease->samples.front() != id) return;
  environment_.metrics.ScoreLeaseAnswered(absl::ToDoubleSeconds(turn.now - lease->issued));
  if (JobRun* run = Find(id.job)) {
    run->ScoreLeaseEnded(turn, lease->issued, NameOf(lease->worker_id), id.iteration);
  }
  score_leases_.Settle(number, id);
}

void Core::LeasePrompts(Turn& turn, const v1::LeasePromptsRequest& request,
                        Call<v1::LeasePromptsResponse> call) {
  const auto worker = registry_.Call(request.worker_id(), v1::PROCESS_ROLE_ROLLOUT, turn.now);
  if (!worker.ok()) {
    Reply(turn, call, worker.status());
  } else if (request.max_leases() < 1) {
    Reply(turn, call,
          InvalidArgument("max_leases: at least 1, got " + std::to_string(request.max_leases())));
  } else if (lease_waiters_.size() >= options_.max_waiting_calls) {
    Reply(turn, call, ResourceExhausted("too many calls wait for leases"));
  } else {
    lease_waiters_.push_back({request.worker_id(),
                              std::min(request.max_leases(), kMaxLeasesPerCall),
                              turn.now + WaitOf(request.wait()), std::move(call)});
  }
}

// The next job with work, after the one that was served last; evaluations go first.
JobRun* Core::NextPromptJob() {
  JobRun* first = nullptr;
  JobRun* next = nullptr;
  for (const auto& [number, run] : active_) {
    if (run->has_pending_evaluation()) return run.get();
    if (run->PendingPrompts().samples == 0) continue;
    if (first == nullptr) first = run.get();
    if (next == nullptr && number > last_prompt_job_) next = run.get();
  }
  return next != nullptr ? next : first;
}

std::vector<v1::PromptLease> Core::TakePrompts(Turn& turn, const LeaseWaiter& waiter) {
  std::vector<v1::PromptLease> leases;
  JobRun::Pending pending;
  for (const auto& [number, run] : active_) {
    const JobRun::Pending one = run->PendingPrompts();
    pending.prompts += one.prompts;
    pending.samples += one.samples;
  }
  if (pending.samples == 0) return leases;
  // What is there is shared between the workers that have nothing to do, the caller among them:
  // prompts first, and when there are fewer prompts than workers, their samples.
  const auto workers = static_cast<int64_t>(registry_.CountRole(v1::PROCESS_ROLE_ROLLOUT));
  const auto holders = static_cast<int64_t>(prompt_leases_.num_holders());
  const bool holds = prompt_leases_.CountOfWorker(waiter.worker_id) > 0;
  const int64_t idle = std::max<int64_t>(1, workers - holders + (holds ? 1 : 0));
  const int64_t max_leases = std::min<int64_t>(waiter.max, CeilDivide(pending.prompts, idle));
  const int64_t max_samples =
      pending.prompts < idle ? CeilDivide(pending.samples, idle) : pending.samples;
  uint64_t bytes = 0;
  while (static_cast<int64_t>(leases.size()) < max_leases && bytes < kMaxAnswerBytes) {
    JobRun* run = NextPromptJob();
    if (run == nullptr) break;
    std::optional<PromptWork> work = run->PeekPrompt(max_samples);
    if (!work) break;
    const Lease& lease =
        prompt_leases_.Issue(waiter.worker_id, work->samples, turn.now, work->timeout);
    run->PromptLeased(turn, *work, lease.number);
    run->OpenNext();
    last_prompt_job_ = run->number();
    work->lease.set_lease_id(LeaseId(lease.number));
    bytes += work->lease.ByteSizeLong();
    leases.push_back(std::move(work->lease));
  }
  return leases;
}

void Core::ServeLeaseWaiters(Turn& turn) {
  if (journal_.congested()) return;
  while (!lease_waiters_.empty()) {
    LeaseWaiter& waiter = lease_waiters_.front();
    v1::LeasePromptsResponse response;
    if (!waiter.call.gone()) {
      std::vector<v1::PromptLease> leases = TakePrompts(turn, waiter);
      if (leases.empty()) return;
      for (v1::PromptLease& lease : leases) *response.add_leases() = std::move(lease);
    }
    Reply(turn, waiter.call, OkStatus(), std::move(response));
    lease_waiters_.pop_front();
  }
}

void Core::SubmitTrajectories(Turn& turn, v1::SubmitTrajectoriesRequest request,
                              Call<v1::SubmitTrajectoriesResponse> call) {
  const auto worker = registry_.Call(request.worker_id(), v1::PROCESS_ROLE_ROLLOUT, turn.now);
  if (!worker.ok()) {
    Reply(turn, call, worker.status());
    return;
  }
  if (request.trajectories_size() + request.failures_size() > kMaxSamplesPerSubmit) {
    Reply(turn, call, InvalidArgument("too many samples in one call"));
    return;
  }
  const uint64_t lease = ParseLeaseId(request.lease_id());
  v1::SubmitTrajectoriesResponse response;
  const auto unwanted = [&](const SampleId& id) {
    v1::SubmitResult& result = *response.add_results();
    *result.mutable_key() = ToKey(id);
    result.set_outcome(v1::SUBMIT_OUTCOME_UNWANTED);
    result.set_message("there is no such job");
  };
  for (v1::Trajectory& trajectory : *request.mutable_trajectories()) {
    const SampleId id = FromKey(trajectory.key());
    JobRun* run = Find(id.job);
    if (run == nullptr) {
      unwanted(id);
      continue;
    }
    Touch(*run);
    *response.add_results() =
        run->SubmitTrajectory(turn, (*worker)->name, std::move(trajectory), lease);
    PromptSampleAnswered(turn, lease, id);
  }
  for (const v1::SampleFailure& failure : request.failures()) {
    const SampleId id = FromKey(failure.key());
    JobRun* run = Find(id.job);
    if (run == nullptr) {
      unwanted(id);
      continue;
    }
    Touch(*run);
    run->PromptLost(turn, {.id = id,
                           .lease = lease,
                           .failure = failure.failure(),
                           .retry = LostSample::Retry::kBackOff});
    PromptSampleAnswered(turn, lease, id);
    v1::SubmitResult& result = *response.add_results();
    *result.mutable_key() = failure.key();
    result.set_outcome(run->ended() ? v1::SUBMIT_OUTCOME_UNWANTED : v1::SUBMIT_OUTCOME_ACCEPTED);
  }
  ReplyDurable(turn, call, std::move(response));
}

void Core::LeaseScores(Turn& turn, const v1::LeaseScoresRequest& request,
                       Call<v1::LeaseScoresResponse> call) {
  const auto worker = registry_.Call(request.worker_id(), v1::PROCESS_ROLE_REWARD, turn.now);
  if (!worker.ok()) {
    Reply(turn, call, worker.status());
  } else if (request.max_tasks() < 1) {
    Reply(turn, call,
          InvalidArgument("max_tasks: at least 1, got " + std::to_string(request.max_tasks())));
  } else if (score_waiters_.size() >= options_.max_waiting_calls) {
    Reply(turn, call, ResourceExhausted("too many calls wait for scores"));
  } else {
    score_waiters_.push_back({request.worker_id(), std::min(request.max_tasks(), kMaxScoresPerCall),
                              turn.now + WaitOf(request.wait()), std::move(call)});
  }
}

void Core::ServeScoreWaiters(Turn& turn) {
  if (journal_.congested()) return;
  while (!score_waiters_.empty()) {
    ScoreWaiter& waiter = score_waiters_.front();
    struct Task {
      ScoreWork work;
      uint64_t lease;
    };
    std::vector<Task> tasks;
    uint64_t bytes = 0;
    while (!waiter.call.gone() && static_cast<int32_t>(tasks.size()) < waiter.max &&
           bytes < kMaxAnswerBytes) {
      JobRun* run = nullptr;
      JobRun* first = nullptr;
      for (const auto& [number, candidate] : active_) {
        if (candidate->num_waiting_scores() == 0) continue;
        if (first == nullptr) first = candidate.get();
        if (run == nullptr && number > last_score_job_) run = candidate.get();
      }
      if (run == nullptr) run = first;
      if (run == nullptr) break;
      last_score_job_ = run->number();
      std::optional<ScoreWork> work = run->TakeScore(turn, score_leases_.next_number());
      if (!work) continue;
      const Lease& lease =
          score_leases_.Issue(waiter.worker_id, {work->sample}, turn.now, work->timeout);
      bytes += work->trajectory->ByteSizeLong() + work->row().json.size();
      tasks.push_back({std::move(*work), lease.number});
    }
    if (tasks.empty() && !waiter.call.gone()) return;
    turn.after.push_back([reply = waiter.call.reply, tasks = std::move(tasks)] {
      v1::LeaseScoresResponse response;
      for (const Task& task : tasks) {
        v1::ScoreTask& out = *response.add_tasks();
        out.set_lease_id(LeaseId(task.lease));
        *out.mutable_trajectory() = *task.work.trajectory;
        out.set_row_json(task.work.row().json);
        *out.mutable_deadline() = ToProto(task.work.timeout);
      }
      reply(OkStatus(), std::move(response));
    });
    score_waiters_.pop_front();
  }
}

void Core::SubmitScores(Turn& turn, v1::SubmitScoresRequest request,
                        Call<v1::SubmitScoresResponse> call) {
  const auto worker = registry_.Call(request.worker_id(), v1::PROCESS_ROLE_REWARD, turn.now);
  if (!worker.ok()) {
    Reply(turn, call, worker.status());
    return;
  }
  if (request.scores_size() > kMaxSamplesPerSubmit) {
    Reply(turn, call, InvalidArgument("too many scores in one call"));
    return;
  }
  v1::SubmitScoresResponse response;
  for (v1::LeasedScore& leased : *request.mutable_scores()) {
    const uint64_t lease = ParseLeaseId(leased.lease_id());
    const SampleId id = FromKey(leased.score().key());
    JobRun* run = Find(id.job);
    if (run == nullptr) {
      v1::SubmitResult& result = *response.add_results();
      *result.mutable_key() = leased.score().key();
      result.set_outcome(v1::SUBMIT_OUTCOME_UNWANTED);
      result.set_message("there is no such job");
      continue;
    }
    Touch(*run);
    *response.add_results() = run->SubmitScore(turn, std::move(*leased.mutable_score()), lease);
    ScoreSampleAnswered(turn, lease, id);
  }
  ReplyDurable(turn, call, std::move(response));
}

StatusOr<v1::GetJobSpecResponse> Core::GetJobSpec(const v1::GetJobSpecRequest& request) {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, FindById(request.job_id()));
  v1::GetJobSpecResponse response;
  *response.mutable_spec() = run->spec();
  response.set_run_dir(run->record().run_dir);
  return response;
}

void Core::GetManifest(Turn& turn, const v1::GetManifestRequest& request,
                       Call<v1::GetManifestResponse> call) {
  const auto worker = registry_.Call(request.worker_id(), v1::PROCESS_ROLE_ROLLOUT, turn.now);
  const auto run = FindById(request.job_id());
  if (!worker.ok() || !run.ok()) {
    Reply(turn, call, worker.ok() ? run.status() : worker.status());
    return;
  }
  (*run)->GetManifest(turn, request, WaitOf(request.wait()), std::move(call));
}

void Core::SubmitReceipt(Turn& turn, const v1::SubmitReceiptRequest& request,
                         Call<v1::SubmitReceiptResponse> call) {
  const v1::WeightReceipt& receipt = request.receipt();
  const auto worker = registry_.Call(receipt.worker_id(), v1::PROCESS_ROLE_ROLLOUT, turn.now);
  const auto run = FindById(receipt.job_id());
  Status status = worker.ok() ? run.status() : worker.status();
  if (status.ok()) status = (*run)->SubmitReceipt(turn, (*worker)->name, receipt);
  if (!status.ok()) {
    Reply(turn, call, status);
    return;
  }
  environment_.logger.Info("policy version held job=" + receipt.job_id() +
                           " version=" + std::to_string(receipt.policy_version()) +
                           " worker=" + (*worker)->name + " transport=" + receipt.transport());
  ReplyDurable(turn, call);
}

// --- learners

StatusOr<JobRun*> Core::JobOfMember(Turn& turn, const v1::GroupMember& member) {
  ROLLCALL_RETURN_IF_ERROR(
      registry_.Call(member.worker_id(), v1::PROCESS_ROLE_LEARNER, turn.now).status());
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, FindById(member.job_id()));
  Touch(*run);
  return run;
}

void Core::AcquireAssignment(Turn& turn, const v1::AcquireAssignmentRequest& request,
                             Call<v1::AcquireAssignmentResponse> call) {
  const std::string& worker_id = request.worker_id();
  const auto worker = registry_.Call(worker_id, v1::PROCESS_ROLE_LEARNER, turn.now);
  if (!worker.ok()) {
    Reply(turn, call, worker.status());
    return;
  }
  if (JobRun* run = GroupOf(worker_id)) {
    const int32_t rank = *run->group().RankOf(worker_id);
    if (!run->group().rank(rank).heard) {
      // The answer with the assignment was lost on its way.
      v1::AcquireAssignmentResponse response;
      *response.mutable_assignment() = run->AssignmentOf(rank);
      Reply(turn, call, OkStatus(), std::move(response));
      return;
    }
    run->LoseGroup(
        turn, "rank " + std::to_string(rank) + " (" + (*worker)->name + ") gave its assignment up");
    Touch(*run);
  }
  std::erase_if(assignment_waiters_, [&](const AssignmentWaiter& waiter) {
    if (waiter.worker_id != worker_id) return false;
    Reply(turn, waiter.call, OkStatus());
    return true;
  });
  assignment_waiters_.push_back({worker_id, turn.now + WaitOf(request.wait()), std::move(call)});
}

bool Core::FormGroup(Turn& turn, JobRun& run) {
  const auto wanted = static_cast<size_t>(run.ranks_wanted());
  std::vector<GroupRank> idle;
  for (const AssignmentWaiter& waiter : assignment_waiters_) {
    if (waiter.call.gone()) continue;
    idle.push_back({waiter.worker_id, NameOf(waiter.worker_id)});
  }
  if (idle.size() < wanted) return false;
  const std::set<std::string>& preferred = run.last_rank_names();
  std::sort(idle.begin(), idle.end(), [&](const GroupRank& a, const GroupRank& b) {
    return std::make_pair(!preferred.contains(a.name), a.name) <
           std::make_pair(!preferred.contains(b.name), b.name);
  });
  idle.resize(wanted);
  std::sort(idle.begin(), idle.end(),
            [](const GroupRank& a, const GroupRank& b) { return a.name < b.name; });
  run.FormGroup(turn, idle);
  Touch(run);
  std::erase_if(assignment_waiters_, [&](const AssignmentWaiter& waiter) {
    const auto rank = run.group().RankOf(waiter.worker_id);
    if (!rank || waiter.call.gone()) return false;
    v1::AcquireAssignmentResponse response;
    *response.mutable_assignment() = run.AssignmentOf(*rank);
    Reply(turn, waiter.call, OkStatus(), std::move(response));
    return true;
  });
  return true;
}

void Core::FormGroups(Turn& turn) {
  if (assignment_waiters_.empty()) return;
  const size_t registered = registry_.CountRole(v1::PROCESS_ROLE_LEARNER);
  // Jobs that lost their group come before jobs that never had one; then the order of submission.
  for (const bool queued : {false, true}) {
    for (const auto& [number, run] : active_) {
      if (!run->wants_group() || (run->state() == v1::JOB_STATE_QUEUED) != queued) continue;
      // A job that is larger than the cluster does not hold up those behind it.
      if (static_cast<size_t>(run->ranks_wanted()) > registered) continue;
      if (!FormGroup(turn, *run)) return;
    }
  }
}

void Core::OfferPolicy(Turn& turn, const v1::OfferPolicyRequest& request,
                       Call<v1::OfferPolicyResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  Reply(turn, call, run.ok() ? (*run)->OfferPolicy(turn, request) : run.status());
}

void Core::AcquireBatch(Turn& turn, const v1::AcquireBatchRequest& request,
                        Call<v1::AcquireBatchResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  if (!run.ok()) {
    Reply(turn, call, run.status());
    return;
  }
  (*run)->AcquireBatch(turn, request, WaitOf(request.wait()), std::move(call));
}

void Core::CommitStep(Turn& turn, const v1::CommitStepRequest& request,
                      Call<v1::CommitStepResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  const Status status = run.ok() ? (*run)->CommitStep(turn, request) : run.status();
  if (status.ok()) {
    ReplyDurable(turn, call);
  } else {
    Reply(turn, call, status);
  }
}

void Core::ReportCheckpoint(Turn& turn, const v1::ReportCheckpointRequest& request,
                            Call<v1::ReportCheckpointResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  const Status status = run.ok() ? (*run)->ReportCheckpoint(turn, request) : run.status();
  if (status.ok()) {
    ReplyDurable(turn, call);
  } else {
    Reply(turn, call, status);
  }
}

void Core::FinishAssignment(Turn& turn, const v1::FinishAssignmentRequest& request,
                            Call<v1::FinishAssignmentResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  const Status status = run.ok() ? (*run)->FinishAssignment(turn, request) : run.status();
  if (status.ok()) {
    ReplyDurable(turn, call);
  } else {
    Reply(turn, call, status);
  }
}

void Core::StoreSet(Turn& turn, const v1::StoreSetRequest& request,
                    Call<v1::StoreSetResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  Reply(turn, call, run.ok() ? (*run)->StoreSet(turn, request) : run.status());
}

void Core::StoreGet(Turn& turn, const v1::StoreGetRequest& request,
                    Call<v1::StoreGetResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  if (!run.ok()) {
    Reply(turn, call, run.status());
    return;
  }
  (*run)->StoreGet(turn, request, WaitOf(request.wait()), std::move(call));
}

void Core::StoreAdd(Turn& turn, const v1::StoreAddRequest& request,
                    Call<v1::StoreAddResponse> call) {
  const auto run = JobOfMember(turn, request.member());
  const StatusOr<int64_t> value =
      run.ok() ? (*run)->StoreAdd(turn, request) : StatusOr<int64_t>(run.status());
  v1::StoreAddResponse response;
  if (value.ok()) response.set_value(*value);
  Reply(turn, call, value.status(), std::move(response));
}

// --- jobs

StatusOr<Core::Submission> Core::BeginSubmit(Turn& turn, const std::string& request_id) {
  (void)turn;
  Submission submission;
  if (!request_id.empty()) {
    if (const auto known = job_of_request_.find(request_id); known != job_of_request_.end()) {
      submission.job = known->second;
      submission.known = true;
      if (const JobRun* run = Find(known->second)) submission.run_dir = run->record().run_dir;
      return submission;
    }
    if (submitting_.contains(request_id)) {
      return Unavailable("the same request is being served: call again");
    }
  }
  if (active_.size() + submitting_.size() >= options_.max_active_jobs) {
    return ResourceExhausted(std::to_string(active_.size()) + " jobs are active, at most " +
                             std::to_string(options_.max_active_jobs) + " may be");
  }
  if (!request_id.empty()) submitting_.insert(request_id);
  submission.job = next_job_++;
  return submission;
}

void Core::AbandonSubmit(Turn& turn, const std::string& request_id) {
  (void)turn;
  submitting_.erase(request_id);
}

void Core::AddJob(Turn& turn, JobRecord record, std::shared_ptr<const PreparedJob> prepared,
                  Call<v1::SubmitJobResponse> call) {
  const JobNumber number = record.job;
  submitting_.erase(record.request_id);
  if (!record.request_id.empty()) job_of_request_[record.request_id] = number;
  const int64_t num_dropped = prepared->data.num_dropped + prepared->evaluation.num_dropped;
  if (num_dropped > 0) {
    environment_.metrics.RowsDropped(static_cast<double>(num_dropped));
    environment_.logger.Warning("rows are too long and dropped job=" + JobId(number) +
                                " rows=" + std::to_string(num_dropped));
  }
  environment_.logger.Info("job admitted job=" + JobId(number) +
                           " name=" + record.spec->run().name() + " run_dir=" + record.run_dir);
  v1::SubmitJobResponse response;
  response.set_job_id(JobId(number));
  response.set_run_dir(record.run_dir);
  turn.records.push_back(record);
  auto run =
      std::make_unique<JobRun>(std::move(record), std::move(prepared), environment_, turn.now);
  turn.records.push_back(JobStatusRecord{number, run->Snapshot(turn.now)});
  Touch(*run);
  active_[number] = std::move(run);
  ReplyDurable(turn, call, std::move(response));
}

v1::ListJobsResponse Core::ListJobs(absl::Time now) const {
  v1::ListJobsResponse response;
  for (const auto& [number, run] : ended_) *response.add_jobs() = run->Snapshot(now);
  for (const auto& [number, run] : active_) *response.add_jobs() = run->Snapshot(now);
  std::sort(response.mutable_jobs()->begin(), response.mutable_jobs()->end(),
            [](const v1::JobStatus& a, const v1::JobStatus& b) { return a.job_id() < b.job_id(); });
  return response;
}

StatusOr<v1::GetJobResponse> Core::GetJob(absl::Time now, const std::string& job_id) const {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, const_cast<Core*>(this)->FindById(job_id));
  v1::GetJobResponse response;
  *response.mutable_status() = run->Snapshot(now);
  *response.mutable_spec() = run->spec();
  return response;
}

void Core::ControlJob(Turn& turn, Control control, const v1::ControlJobRequest& request,
                      Call<v1::ControlJobResponse> call) {
  const auto run = FindById(request.job_id());
  Status status = run.status();
  if (run.ok()) {
    switch (control) {
      case Control::kPause:
        status = (*run)->Pause(turn);
        break;
      case Control::kResume:
        status = (*run)->Resume(turn);
        break;
      case Control::kCancel:
        status = (*run)->Cancel(turn);
        break;
    }
  }
  if (!status.ok()) {
    Reply(turn, call, status);
    return;
  }
  Touch(**run);
  v1::ControlJobResponse response;
  *response.mutable_status() = (*run)->Snapshot(turn.now);
  ReplyDurable(turn, call, std::move(response));
}

Status Core::WatchJob(Turn& turn, const std::string& job_id, std::shared_ptr<JobWatcher> watcher) {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, FindById(job_id));
  run->AddWatcher(turn, std::move(watcher));
  return OkStatus();
}

v1::GetClusterResponse Core::GetCluster(absl::Time now) const {
  v1::GetClusterResponse response;
  std::vector<const Worker*> workers;
  for (const auto& [id, worker] : registry_.workers()) workers.push_back(&worker);
  std::sort(workers.begin(), workers.end(),
            [](const Worker* a, const Worker* b) { return a->name < b->name; });
  for (const Worker* worker : workers) {
    v1::ProcessInfo& info = *response.add_processes();
    info.set_worker_id(worker->id);
    info.set_role(worker->role);
    info.set_name(worker->name);
    info.set_host(worker->host);
    info.set_pid(worker->pid);
    info.set_address(worker->address);
    info.set_metrics_address(worker->metrics_address);
    info.set_phase(worker->phase);
    info.set_job_id(worker->job_id);
    *info.mutable_since_heartbeat() = ToProto(now - worker->last_heartbeat);
  }
  return response;
}

StatusOr<Core::JobSource> Core::FindJobSource(const std::string& job_id) const {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, const_cast<Core*>(this)->FindById(job_id));
  JobSource source;
  source.job = run->number();
  source.spec = run->record().spec;
  if (run->prepared() != nullptr) source.tokenizer = run->prepared()->tokenizer;
  return source;
}

void Core::DropWaiters() {
  lease_waiters_.clear();
  score_waiters_.clear();
  assignment_waiters_.clear();
  for (const auto& [number, run] : active_) run->DropWaiters();
  for (const auto& [number, run] : ended_) run->DropWaiters();
}

// --- time

absl::Duration Core::StallTimeoutOf(const Worker& worker) {
  absl::Duration timeout = absl::InfiniteDuration();
  const auto consider = [&](JobNumber job) {
    if (JobRun* run = Find(job)) {
      timeout = std::min(timeout, FromProto(run->spec().resources().stall_timeout()));
    }
  };
  for (const LeaseTable* table : {&prompt_leases_, &score_leases_}) {
    for (const JobNumber job : table->JobsOfWorker(worker.id)) consider(job);
  }
  if (JobRun* run = GroupOf(worker.id)) consider(run->number());
  return timeout;
}

void Core::Watchdog(Turn& turn) {
  for (const std::string& id : registry_.Silent(turn.now)) {
    RemoveWorker(turn, id, "silent",
                 "missed its heartbeats for " + Seconds(options_.registry.heartbeat_timeout),
                 LostSample::Budget::kCounts);
  }
  struct Stall {
    absl::Time since;
    std::string name;
    std::string id;
    std::string what;
  };
  std::vector<Stall> stalls;
  for (const auto& [id, worker] : registry_.workers()) {
    const absl::Duration still = turn.now - worker.last_movement;
    if (still < absl::Seconds(1)) continue;
    if (still <= StallTimeoutOf(worker)) continue;
    stalls.push_back(
        {worker.last_movement, worker.name, id,
         "made no progress for " + Seconds(still) + " in phase '" + worker.phase + "'"});
  }
  // The one that stands still the longest is the cause; the others of a group wait for it, and are
  // looked at again when the group is gone.
  std::sort(stalls.begin(), stalls.end(), [](const Stall& a, const Stall& b) {
    return std::tie(a.since, a.name) < std::tie(b.since, b.name);
  });
  for (const Stall& stall : stalls) {
    const auto worker = registry_.Find(stall.id);
    if (!worker.ok() || turn.now - (*worker)->last_movement <= StallTimeoutOf(**worker)) continue;
    RemoveWorker(turn, stall.id, "stalled", stall.what, LostSample::Budget::kCounts);
  }
}

void Core::Tick(Turn& turn) {
  if (last_tick_ != absl::Time() && turn.now - last_tick_ > kLateTick) {
    // This process was stopped or starved: nobody could reach it, so nobody was late.
    const absl::Duration away = turn.now - last_tick_;
    environment_.logger.Warning("the coordinator itself stood still for " + Seconds(away) +
                                ": deadlines move");
    registry_.Forgive(away);
    prompt_leases_.Extend(away);
    score_leases_.Extend(away);
  }
  last_tick_ = turn.now;
  for (const Lease& lease : prompt_leases_.TakeExpired(turn.now)) {
    LosePromptLease(turn, lease, "lease_expired",
                    NameOf(lease.worker_id) + " did not answer within " +
                        Seconds(lease.deadline - lease.issued),
                    LostSample::Budget::kCounts);
  }
  for (const Lease& lease : score_leases_.TakeExpired(turn.now)) {
    LoseScoreLease(turn, lease, "lease_expired",
                   NameOf(lease.worker_id) + " did not answer within " +
                       Seconds(lease.deadline - lease.issued),
                   LostSample::Budget::kCounts);
  }
  if (turn.now - last_watchdog_ >= kWatchdogInterval) {
    last_watchdog_ = turn.now;
    Watchdog(turn);
    ExplainWaits();
    for (const auto& [number, run] : active_) {
      const absl::Duration timeout = FromProto(run->spec().resources().learner_timeout());
      if (run->wants_group() && turn.now - run->waiting_since() > timeout) {
        run->Fail(turn, "no learner group within " + Seconds(timeout) + ": it " +
                            run->Snapshot(turn.now).state_reason());
        Touch(*run);
      }
    }
    UpdateGauges();
  }
  for (const auto& [number, run] : active_) {
    run->Tick(turn);
    Touch(*run);
  }
  for (const auto& [number, run] : ended_) run->Tick(turn);
  AnswerOverdue(turn);
}

void Core::AnswerOverdue(Turn& turn) {
  const auto answer = [&](auto& waiters) {
    std::erase_if(waiters, [&](const auto& waiter) {
      if (waiter.deadline > turn.now && !waiter.call.gone()) return false;
      Reply(turn, waiter.call, OkStatus());
      return true;
    });
  };
  answer(lease_waiters_);
  answer(score_waiters_);
  answer(assignment_waiters_);
}

void Core::ExplainWaits() {
  size_t idle = 0;
  for (const AssignmentWaiter& waiter : assignment_waiters_) idle += waiter.call.gone() ? 0 : 1;
  const bool no_rollouts = registry_.CountRole(v1::PROCESS_ROLE_ROLLOUT) == 0;
  const bool no_rewards = registry_.CountRole(v1::PROCESS_ROLE_REWARD) == 0;
  for (const auto& [number, run] : active_) {
    if (run->state() == v1::JOB_STATE_PAUSED) continue;
    if (run->wants_group()) {
      std::string reason = "waits for " + std::to_string(run->ranks_wanted()) + " learners, " +
                           std::to_string(idle) + (idle == 1 ? " is idle" : " are idle");
      if (!run->group().fence_reason().empty() && run->state() != v1::JOB_STATE_QUEUED) {
        reason += " (the group ended: " + run->group().fence_reason() + ")";
      }
      run->SetWaitReason(reason);
    } else if (no_rollouts && run->PendingPrompts().samples > 0) {
      run->SetWaitReason("waits for a rollout worker, none is registered");
    } else if (no_rewards && run->num_waiting_scores() > 0) {
      run->SetWaitReason("waits for a reward server, none is registered");
    } else {
      run->SetWaitReason("");
    }
  }
}

void Core::UpdateGauges() {
  std::map<v1::JobState, double> jobs;
  for (const v1::JobState state :
       {v1::JOB_STATE_QUEUED, v1::JOB_STATE_RUNNING, v1::JOB_STATE_PAUSED, v1::JOB_STATE_SUCCEEDED,
        v1::JOB_STATE_FAILED, v1::JOB_STATE_CANCELLED}) {
    jobs[state] = 0;
  }
  int64_t pending = 0;
  size_t scores = 0;
  int64_t version = 0;
  for (const auto& [number, run] : active_) {
    ++jobs[run->state()];
    pending += run->PendingPrompts().samples;
    scores += run->num_waiting_scores();
    version = std::max(version, run->newest_version());
  }
  for (const auto& [number, run] : ended_) ++jobs[run->state()];
  for (const auto& [state, count] : jobs) environment_.metrics.SetJobs(state, count);
  for (const v1::ProcessRole role :
       {v1::PROCESS_ROLE_ROLLOUT, v1::PROCESS_ROLE_REWARD, v1::PROCESS_ROLE_LEARNER}) {
    environment_.metrics.SetWorkers(role, static_cast<double>(registry_.CountRole(role)));
  }
  environment_.metrics.SetQueues(static_cast<double>(pending), static_cast<double>(scores),
                                 static_cast<double>(lease_waiters_.size()),
                                 static_cast<double>(num_leases()));
  environment_.metrics.SetPolicyVersion(static_cast<double>(version));
}

void Core::BatchRead(Turn& turn, JobNumber job, int64_t step,
                     StatusOr<std::vector<StoredSample>> samples) {
  JobRun* run = Find(job);
  if (run == nullptr) return;
  run->BatchRead(turn, step, std::move(samples));
  Touch(*run);
}

void Core::EndJob(Turn& turn, JobRun& run) {
  const JobNumber number = run.number();
  for (LeaseTable* table : {&prompt_leases_, &score_leases_}) (void)table->TakeOfJob(number);
  (void)turn;
  ended_job_ids_.push_back(JobId(number));
  auto node = active_.extract(number);
  ended_[number] = std::move(node.mapped());
  while (ended_.size() > options_.max_ended_jobs_listed) ended_.erase(ended_.begin());
}

std::vector<Core::WantedRead> Core::Settle(Turn& turn) {
  std::vector<WantedRead> reads;
  FormGroups(turn);
  const std::set<JobNumber> touched = std::exchange(touched_, {});
  for (const JobNumber number : touched) {
    const auto found = active_.find(number);
    if (found == active_.end()) continue;
    JobRun& run = *found->second;
    run.Advance(turn);
    for (const int64_t step : run.TakeWantedReads()) reads.push_back({number, step});
    if (run.ended()) EndJob(turn, run);
  }
  ServeLeaseWaiters(turn);
  ServeScoreWaiters(turn);
  return reads;
}

}  // namespace rollcall::coordinator
