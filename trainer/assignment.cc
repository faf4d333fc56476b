#include "trainer/assignment.h"

#include <algorithm>
#include <utility>

#include "services/weight_sync/manifest_codec.h"
#include "trainer/batch_codec.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/job_options.h"

namespace rollcall {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(10);
// A call may answer this much later than the wait it carries.
constexpr absl::Duration kWaitSlack = absl::Seconds(10);
// A peer that still makes progress is not given up before the watchdog would name it.
constexpr absl::Duration kMinCollectiveTimeout = absl::Seconds(30);
constexpr int kStallTimeoutsPerCollective = 2;

void SetDuration(absl::Duration duration, google::protobuf::Duration* proto) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  proto->set_seconds(nanos / 1000000000);
  proto->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

absl::Duration GetDuration(const google::protobuf::Duration& proto) {
  return absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

// What can get better by forming the group again; everything else needs a person.
bool IsInfrastructure(StatusCode code) {
  switch (code) {
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kCancelled:
    case StatusCode::kAborted:
    case StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

AssignmentRun::AssignmentRun(const AssignmentOptions& options, const Parts& parts,
                             const std::string& worker_id, v1::Assignment assignment)
    : options_(options), parts_(parts), assignment_(std::move(assignment)) {
  member_.set_worker_id(worker_id);
  member_.set_job_id(assignment_.job_id());
  member_.set_epoch(assignment_.epoch());
  member_.set_rank(assignment_.rank());
}

Status AssignmentRun::Run() {
  const Status status = Steps();
  // A broken collective is only what the fence looks like from inside.
  MutexLock lock(mu_);
  interruptible_ = nullptr;
  return status.ok() || broken_.ok() ? status : broken_;
}

Status AssignmentRun::Steps() {
  ROLLCALL_RETURN_IF_ERROR(InPhase("load", [this] { return MakeTheLearner(); }));
  parts_.metrics.GroupFormed(assignment_.epoch(), assignment_.world_size());
  if (is_lead()) {
    v1::OfferPolicyRequest request;
    *request.mutable_member() = member_;
    ROLLCALL_ASSIGN_OR_RETURN(*request.mutable_manifest(), Publish(assignment_.resume_step()));
    v1::OfferPolicyResponse response;
    ROLLCALL_RETURN_IF_ERROR(
        CallPatiently(&v1::LearnerService::Stub::OfferPolicy, request, &response, kCallTimeout));
    if (assignment_.resume_step() == total_steps()) {
      // Nothing is left to train; the process that saved the checkpoint may have died before it
      // wrote the model.
      ROLLCALL_RETURN_IF_ERROR(learner_->SaveModel(assignment_.run_dir() + "/final"));
    }
  }
  for (int64_t step = assignment_.resume_step() + 1; step <= total_steps(); ++step) {
    ROLLCALL_RETURN_IF_ERROR(TrainOneStep(step));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const v1::Batch last, WaitForBatch(total_steps() + 1));
  if (last.groups_size() > 0) return Internal("the coordinator sent a batch after the last step");
  return Finish();
}

Status AssignmentRun::TrainOneStep(int64_t step) {
  ROLLCALL_ASSIGN_OR_RETURN(const v1::Batch proto, WaitForBatch(step));
  ROLLCALL_ASSIGN_OR_RETURN(const TrainBatch batch, BatchFromProto(proto));
  ROLLCALL_ASSIGN_OR_RETURN(const StepReport report, learner_->Update(batch));
  for (const auto& [name, value] : report.metrics) {
    constexpr std::string_view kPrefix = "seconds_";
    if (name.starts_with(kPrefix) && name != "seconds_update") {
      parts_.metrics.PhaseTook(name.substr(kPrefix.size()), value);
    }
  }
  parts_.metrics.StepTrained(step, report.metrics.at("tokens"), report.optimizer_updates);
  if (!is_lead()) return OkStatus();

  ROLLCALL_ASSIGN_OR_RETURN(const v1::WeightManifest manifest, Publish(step));
  ROLLCALL_RETURN_IF_ERROR(Commit(step, report, manifest));
  const int64_t interval = std::max<int64_t>(assignment_.spec().checkpoint().interval_steps(), 1);
  if (step % interval != 0 && step != total_steps()) return OkStatus();
  return InPhase("checkpoint", [&] { return Checkpoint(step); });
}

Status AssignmentRun::MakeTheLearner() {
  LearnerEvents events;
  events.phase = [this](std::string_view phase) { EnterPhase(phase); };
  events.progress = [this] { parts_.fleet.Progress(); };
  ROLLCALL_ASSIGN_OR_RETURN(const LearnerOptions options,
                            LearnerOptionsFromAssignment(assignment_));
  ROLLCALL_ASSIGN_OR_RETURN(
      learner_, MakeLearner(options, MakeGroupOptions(), parts_.clock, std::move(events)));
  MutexLock lock(mu_);
  interruptible_ = learner_.get();
  return broken_;
}

GroupOptions AssignmentRun::MakeGroupOptions() {
  GroupOptions group;
  group.rank = assignment_.rank();
  group.world_size = assignment_.world_size();
  group.collective_timeout = std::max(
      kMinCollectiveTimeout,
      kStallTimeoutsPerCollective * GetDuration(assignment_.spec().resources().stall_timeout()));
  group.interface_address = options_.interface_address;
  group.store_set = [this](const std::string& key, const std::string& value) {
    return StoreSet(key, value);
  };
  group.store_get = [this](const std::string& key, absl::Duration wait) {
    return StoreGet(key, wait);
  };
  group.store_add = [this](const std::string& key, int64_t amount) {
    return StoreAdd(key, amount);
  };
  return group;
}

StatusOr<v1::Batch> AssignmentRun::WaitForBatch(int64_t step) {
  v1::Batch batch;
  const Status status = InPhase("wait_batch", [&]() -> Status {
    v1::AcquireBatchRequest request;
    *request.mutable_member() = member_;
    request.set_step(step);
    SetDuration(options_.poll_wait, request.mutable_wait());
    while (true) {
      ROLLCALL_RETURN_IF_ERROR(CheckGoingOn());
      v1::AcquireBatchResponse response;
      ROLLCALL_RETURN_IF_ERROR(CallPatiently(&v1::LearnerService::Stub::AcquireBatch, request,
                                             &response, options_.poll_wait + kWaitSlack));
      parts_.fleet.Progress();
      if (!response.has_batch()) continue;
      if (response.batch().step() != step) {
        return Internal("asked for the batch of step " + std::to_string(step) + ", got step " +
                        std::to_string(response.batch().step()));
      }
      batch = std::move(*response.mutable_batch());
      return OkStatus();
    }
  });
  ROLLCALL_RETURN_IF_ERROR(status);
  return batch;
}

StatusOr<v1::WeightManifest> AssignmentRun::Publish(int64_t version) {
  v1::WeightManifest proto;
  const Status status = InPhase("publish", [&]() -> Status {
    ROLLCALL_ASSIGN_OR_RETURN(std::vector<std::byte> snapshot, learner_->Snapshot());
    // Those that a worker may still sample with, and the one before, which it may be fetching.
    const int keep_versions = assignment_.spec().sync().max_staleness() + 2;
    ROLLCALL_ASSIGN_OR_RETURN(
        const Manifest manifest,
        parts_.weights.Publish(assignment_.job_id(), version, assignment_.epoch(),
                               learner_->layout(), std::move(snapshot),
                               TransportFromSpec(assignment_.spec()), keep_versions));
    proto = ManifestToProto(manifest);
    return OkStatus();
  });
  ROLLCALL_RETURN_IF_ERROR(status);
  return proto;
}

Status AssignmentRun::Commit(int64_t step, const StepReport& report,
                             const v1::WeightManifest& manifest) {
  v1::CommitStepRequest request;
  *request.mutable_member() = member_;
  request.set_step(step);
  *request.mutable_manifest() = manifest;
  request.set_optimizer_updates(report.optimizer_updates);
  auto& metrics = *request.mutable_metrics();
  for (const auto& [name, value] : report.metrics) metrics[name] = value;
  for (const auto& [phase, seconds] : seconds_) metrics["seconds_" + phase] = seconds;
  metrics["world_size"] = assignment_.world_size();
  v1::CommitStepResponse response;
  ROLLCALL_RETURN_IF_ERROR(
      CallPatiently(&v1::LearnerService::Stub::CommitStep, request, &response, kCallTimeout));
  seconds_.clear();
  return OkStatus();
}

Status AssignmentRun::Checkpoint(int64_t step) {
  const std::string directory = CheckpointDirectory(assignment_.run_dir(), step);
  ROLLCALL_RETURN_IF_ERROR(learner_->SaveCheckpoint(directory));
  parts_.fleet.Progress();
  if (step == total_steps()) {
    ROLLCALL_RETURN_IF_ERROR(learner_->SaveModel(assignment_.run_dir() + "/final"));
    parts_.fleet.Progress();
  }
  v1::ReportCheckpointRequest request;
  *request.mutable_member() = member_;
  request.set_step(step);
  request.set_directory(directory);
  v1::ReportCheckpointResponse response;
  ROLLCALL_RETURN_IF_ERROR(
      CallPatiently(&v1::LearnerService::Stub::ReportCheckpoint, request, &response, kCallTimeout));
  const Status removed = RemoveOldCheckpoints(
      assignment_.run_dir(), step, std::max(assignment_.spec().checkpoint().keep_last(), 1));
  if (!removed.ok()) {
    parts_.logger.Warning("old checkpoints stay job=" + assignment_.job_id() + " error=\"" +
                          Message(removed) + "\"");
  }
  return OkStatus();
}

Status AssignmentRun::Finish() {
  v1::FinishAssignmentRequest request;
  *request.mutable_member() = member_;
  v1::FinishAssignmentResponse response;
  return CallPatiently(&v1::LearnerService::Stub::FinishAssignment, request, &response,
                       kCallTimeout);
}

void AssignmentRun::ReportFailure(const Status& status) {
  v1::FinishAssignmentRequest request;
  *request.mutable_member() = member_;
  v1::Failure& failure = *request.mutable_failure();
  failure.set_kind(IsInfrastructure(status.code()) ? v1::Failure::KIND_INFRASTRUCTURE
                                                   : v1::Failure::KIND_DATA);
  failure.set_reason(status.code() == StatusCode::kCancelled ? "stopping" : "learner_" + phase_);
  failure.set_message("learner rank " + std::to_string(assignment_.rank()) + " in phase " + phase_ +
                      ": " + Message(status));
  v1::FinishAssignmentResponse response;
  const Status told = Call(parts_.stub, &v1::LearnerService::Stub::FinishAssignment, request,
                           &response, {.timeout = kCallTimeout, .max_attempts = kAttemptsPerCall});
  if (!told.ok() && told.code() != StatusCode::kAborted) {
    parts_.logger.Warning("could not report a failure job=" + assignment_.job_id() + " error=\"" +
                          Message(told) + "\"");
  }
}

void AssignmentRun::Break(const Status& status) {
  MutexLock lock(mu_);
  if (broken_.ok()) broken_ = status;
  if (interruptible_ != nullptr) interruptible_->Interrupt();
}

Status AssignmentRun::CheckGoingOn() {
  if (stop_requested_.load()) return Cancelled("the process is stopping");
  MutexLock lock(mu_);
  return broken_;
}

void AssignmentRun::EnterPhase(std::string_view phase) {
  if (phase == phase_) return;
  phase_ = phase;
  parts_.fleet.SetPhase(phase_, assignment_.job_id());
}

Status AssignmentRun::InPhase(std::string_view phase, const std::function<Status()>& fn) {
  EnterPhase(phase);
  const absl::Time start = parts_.clock.Now();
  const Status status = fn();
  const double seconds = absl::ToDoubleSeconds(parts_.clock.Now() - start);
  seconds_[std::string(phase)] += seconds;
  parts_.metrics.PhaseTook(phase, seconds);
  return status;
}

// --- Rendezvous -----------------------------------------------------------------------------

Status AssignmentRun::StoreSet(const std::string& key, const std::string& value) {
  EnterPhase("rendezvous");
  v1::StoreSetRequest request;
  *request.mutable_member() = member_;
  request.set_key(key);
  request.set_value(value);
  v1::StoreSetResponse response;
  return CallPatiently(&v1::LearnerService::Stub::StoreSet, request, &response, kCallTimeout);
}

StatusOr<std::string> AssignmentRun::StoreGet(const std::string& key, absl::Duration wait) {
  EnterPhase("rendezvous");
  const absl::Time deadline = parts_.clock.Now() + wait;
  while (true) {
    ROLLCALL_RETURN_IF_ERROR(CheckGoingOn());
    const absl::Duration left =
        std::clamp(deadline - parts_.clock.Now(), absl::ZeroDuration(), options_.poll_wait);
    v1::StoreGetRequest request;
    *request.mutable_member() = member_;
    request.set_key(key);
    SetDuration(left, request.mutable_wait());
    v1::StoreGetResponse response;
    ROLLCALL_RETURN_IF_ERROR(
        CallPatiently(&v1::LearnerService::Stub::StoreGet, request, &response, left + kWaitSlack));
    if (response.has_value()) return response.value();
    parts_.fleet.Progress();
    if (parts_.clock.Now() >= deadline) {
      return DeadlineExceeded("rendezvous: key '" + key + "' did not appear within " +
                              absl::FormatDuration(wait));
    }
  }
}

StatusOr<int64_t> AssignmentRun::StoreAdd(const std::string& key, int64_t amount) {
  EnterPhase("rendezvous");
  v1::StoreAddRequest request;
  *request.mutable_member() = member_;
  request.set_key(key);
  request.set_amount(amount);
  v1::StoreAddResponse response;
  // Adding is not idempotent: one attempt.
  ROLLCALL_RETURN_IF_ERROR(Call(parts_.stub, &v1::LearnerService::Stub::StoreAdd, request,
                                &response, {.timeout = kCallTimeout}));
  return response.value();
}

}  // namespace rollcall
