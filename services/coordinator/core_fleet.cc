// Membership, and what time does: heartbeats, the watchdog, deadlines, gauges.
#include <algorithm>
#include <tuple>
#include <utility>

#include "services/coordinator/core.h"

namespace rollcall::coordinator {
namespace {

constexpr absl::Duration kWatchdogInterval = absl::Milliseconds(500);
// A tick that comes this late means that this process itself was stopped.
constexpr absl::Duration kLateTick = absl::Seconds(1);
constexpr size_t kEndedJobsTold = 100;

std::string Seconds(absl::Duration duration) {
  return std::to_string(absl::ToInt64Seconds(duration)) + " s";
}

}  // namespace

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
  for (v1::MigrationOrder& order : std::exchange(worker->migrations, {})) {
    *response.add_migrations() = std::move(order);
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

void Core::Reschedule() {
  if (options_.rescheduler.mode == Rescheduling::kOff) return;
  std::vector<EngineState> engines;
  for (const auto& [id, worker] : registry_.workers()) {
    if (worker.role != v1::PROCESS_ROLE_ROLLOUT) continue;
    for (const v1::EngineLoad& load : worker.loads) {
      engines.push_back({.worker_id = id,
                         .address = worker.address,
                         .job_id = load.job_id(),
                         .policy_version = load.policy_version(),
                         .freeness = load.freeness(),
                         .num_running = load.num_running(),
                         .num_used_blocks = load.num_used_blocks(),
                         .num_blocks = load.num_blocks(),
                         .is_leaving = worker.is_leaving});
    }
  }
  for (const PlannedMigration& move : PlanMigrations(options_.rescheduler, engines)) {
    const auto source = registry_.Find(move.source_worker_id);
    // One order at a time: the next plan is made from loads that know what came of it.
    if (!source.ok() || !(*source)->migrations.empty()) continue;
    v1::MigrationOrder& order = (*source)->migrations.emplace_back();
    order.set_job_id(move.job_id);
    order.set_destination(move.destination);
    order.set_max_sequences(move.max_sequences);
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
    Reschedule();
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

}  // namespace rollcall::coordinator
