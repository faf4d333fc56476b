#include "trainer/learner_service.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "services/common/rpc/client.h"
#include "trainer/fence_watch.h"

namespace rollcall {
namespace {

constexpr absl::Duration kWaitSlack = absl::Seconds(10);
constexpr absl::Duration kPauseAfterTrouble = absl::Milliseconds(500);

std::string Fields(const v1::Assignment& assignment) {
  return " job=" + assignment.job_id() + " epoch=" + std::to_string(assignment.epoch()) +
         " rank=" + std::to_string(assignment.rank()) +
         " world_size=" + std::to_string(assignment.world_size()) +
         " resume_step=" + std::to_string(assignment.resume_step());
}

}  // namespace

LearnerService::LearnerService(const AssignmentOptions& options, const Parts& parts)
    : options_(options),
      parts_(parts),
      stub_(v1::LearnerService::NewStub(parts.coordinator)),
      metrics_(parts.metrics) {
  thread_ = std::thread([this] { Run(); });
}

LearnerService::~LearnerService() { Stop(absl::ZeroDuration()); }

void LearnerService::Stop(absl::Duration patience) {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
    if (running_ != nullptr) running_->RequestStop();
    const absl::Time deadline = absl::Now() + patience;
    while (!ended_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) break;
      changed_.WaitFor(mu_, left);
    }
    if (running_ != nullptr) running_->Break(Cancelled("the process is stopping"));
  }
  if (thread_.joinable()) thread_.join();
}

void LearnerService::DropJobs(const std::vector<std::string>& job_ids) {
  {
    MutexLock lock(mu_);
    if (running_ != nullptr &&
        std::find(job_ids.begin(), job_ids.end(), running_->member().job_id()) != job_ids.end()) {
      running_->Break(Aborted("the job has ended"));
    }
  }
  for (const std::string& job_id : job_ids) parts_.weights.DropJob(job_id);
}

void LearnerService::Run() {
  while (!stopping()) {
    parts_.fleet.SetPhase("idle", "");
    const std::string worker_id = parts_.fleet.worker_id(options_.poll_wait);
    if (worker_id.empty()) continue;
    if (parts_.fleet.draining()) {
      Pause(options_.poll_wait);
      continue;
    }
    StatusOr<std::optional<v1::Assignment>> assignment = AcquireAssignment(worker_id);
    if (!assignment.ok()) {
      if (assignment.status().code() == StatusCode::kAborted) parts_.fleet.Invalidate(worker_id);
      Pause(kPauseAfterTrouble);
    } else if (assignment->has_value()) {
      RunAssignment(worker_id, std::move(**assignment));
    }
  }
  MutexLock lock(mu_);
  ended_ = true;
  changed_.NotifyAll();
}

StatusOr<std::optional<v1::Assignment>> LearnerService::AcquireAssignment(
    const std::string& worker_id) {
  v1::AcquireAssignmentRequest request;
  request.set_worker_id(worker_id);
  const int64_t nanos = absl::ToInt64Nanoseconds(options_.poll_wait);
  request.mutable_wait()->set_seconds(nanos / 1000000000);
  request.mutable_wait()->set_nanos(static_cast<int32_t>(nanos % 1000000000));
  v1::AcquireAssignmentResponse response;
  ROLLCALL_RETURN_IF_ERROR(Call(*stub_, &v1::LearnerService::Stub::AcquireAssignment, request,
                                &response, {.timeout = options_.poll_wait + kWaitSlack}));
  if (!response.has_assignment()) return std::optional<v1::Assignment>();
  return std::optional<v1::Assignment>(std::move(*response.mutable_assignment()));
}

void LearnerService::RunAssignment(const std::string& worker_id, v1::Assignment assignment) {
  const std::string fields = Fields(assignment);
  parts_.logger.Info("took an assignment" + fields);
  parts_.fleet.SetPhase("load", assignment.job_id());
  AssignmentRun run(options_,
                    {.stub = *stub_,
                     .fleet = parts_.fleet,
                     .weights = parts_.weights,
                     .metrics = metrics_,
                     .logger = parts_.logger,
                     .clock = parts_.clock},
                    worker_id, std::move(assignment));
  {
    MutexLock lock(mu_);
    running_ = &run;
    if (stopping_) run.RequestStop();
  }
  Status status;
  {
    const FenceWatch watch(*stub_, run.member(), options_.poll_wait,
                           [&run](const Status& fenced) { run.Break(fenced); });
    status = run.Run();
  }
  {
    MutexLock lock(mu_);
    running_ = nullptr;
  }
  metrics_.GroupLeft();
  if (status.ok()) {
    parts_.logger.Info("finished the assignment" + fields);
  } else if (status.code() == StatusCode::kAborted) {
    metrics_.Fenced();
    parts_.logger.Info("the group was fenced, asking for work again" + fields + " reason=\"" +
                       Message(status) + "\"");
  } else {
    metrics_.AssignmentFailed();
    parts_.logger.Error("gave up the assignment" + fields +
                        " code=" + absl::StatusCodeToString(status.code()) + " error=\"" +
                        Message(status) + "\"");
    run.ReportFailure(status);
  }
}

bool LearnerService::stopping() {
  MutexLock lock(mu_);
  return stopping_;
}

void LearnerService::Pause(absl::Duration duration) {
  MutexLock lock(mu_);
  const absl::Time deadline = absl::Now() + duration;
  while (!stopping_) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return;
    changed_.WaitFor(mu_, left);
  }
}

}  // namespace rollcall
