// Learner groups: who trains which job, and what its ranks report.
#include <algorithm>
#include <utility>

#include "services/coordinator/core.h"

namespace rollcall::coordinator {

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

}  // namespace rollcall::coordinator
