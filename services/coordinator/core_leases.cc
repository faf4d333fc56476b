// Prompts and scores: who holds what until when, and what comes back.
#include <algorithm>
#include <limits>
#include <utility>

#include "services/coordinator/core.h"

namespace rollcall::coordinator {
namespace {

constexpr int32_t kMaxLeasesPerCall = 256;
constexpr int32_t kMaxScoresPerCall = 256;
// Bounds of one answer, well below the transport's.
constexpr uint64_t kMaxAnswerBytes = 16 << 20;
constexpr int kMaxSamplesPerSubmit = 65'536;

v1::Failure Infrastructure(const std::string& reason, const std::string& message) {
  v1::Failure failure;
  failure.set_kind(v1::Failure::KIND_INFRASTRUCTURE);
  failure.set_reason(reason);
  failure.set_message(message);
  return failure;
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

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

std::deque<Core::LeaseWaiter>::iterator Core::NextLeaseWaiter() {
  if (options_.rescheduler.mode == Rescheduling::kOff) return lease_waiters_.begin();
  const auto freeness = [this](const LeaseWaiter& waiter) {
    double least = std::numeric_limits<double>::infinity();
    const auto worker = registry_.Find(waiter.worker_id);
    if (!worker.ok()) return least;
    for (const v1::EngineLoad& load : (*worker)->loads) least = std::min(least, load.freeness());
    return least;
  };
  return std::max_element(
      lease_waiters_.begin(), lease_waiters_.end(),
      [&](const LeaseWaiter& a, const LeaseWaiter& b) { return freeness(a) < freeness(b); });
}

void Core::ServeLeaseWaiters(Turn& turn) {
  if (journal_.congested()) return;
  while (!lease_waiters_.empty()) {
    const auto next = NextLeaseWaiter();
    LeaseWaiter& waiter = *next;
    v1::LeasePromptsResponse response;
    if (!waiter.call.gone()) {
      std::vector<v1::PromptLease> leases = TakePrompts(turn, waiter);
      if (leases.empty()) return;
      for (v1::PromptLease& lease : leases) *response.add_leases() = std::move(lease);
    }
    Reply(turn, waiter.call, OkStatus(), std::move(response));
    lease_waiters_.erase(next);
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

}  // namespace rollcall::coordinator
