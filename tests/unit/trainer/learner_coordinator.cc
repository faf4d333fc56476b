#include "tests/unit/trainer/learner_coordinator.h"

#include <limits>
#include <utility>

#include "absl/time/clock.h"
#include "services/base/status/status.h"

namespace rollcall::testing {
namespace {

constexpr const char* kJob = "job-1";

absl::Time Deadline(const google::protobuf::Duration& wait) {
  return absl::Now() + absl::Seconds(wait.seconds()) + absl::Nanoseconds(wait.nanos());
}

}  // namespace

class LearnerCoordinator::Learner final : public v1::LearnerService::Service {
 public:
  explicit Learner(LearnerCoordinator& owner) : owner_(owner) {}

  grpc::Status AcquireAssignment(grpc::ServerContext*, const v1::AcquireAssignmentRequest* request,
                                 v1::AcquireAssignmentResponse* response) override {
    MutexLock lock(owner_.mu_);
    const absl::Time until = Deadline(request->wait());
    while (!owner_.active_ || static_cast<int>(owner_.ranks_.size()) == owner_.world_size_) {
      if (absl::Now() >= until) return grpc::Status::OK;
      owner_.changed_.WaitFor(owner_.mu_, until - absl::Now());
    }
    v1::Assignment& assignment = *response->mutable_assignment();
    assignment.set_job_id(kJob);
    assignment.set_epoch(owner_.epoch_);
    assignment.set_rank(static_cast<int32_t>(owner_.ranks_.size()));
    assignment.set_world_size(owner_.world_size_);
    *assignment.mutable_spec() = owner_.options_.spec;
    assignment.set_run_dir(owner_.options_.run_dir);
    if (!owner_.log_.checkpoints.empty()) {
      assignment.set_resume_step(owner_.log_.checkpoints.back().step());
      assignment.set_checkpoint_dir(owner_.log_.checkpoints.back().directory());
    }
    owner_.ranks_.push_back(request->worker_id());
    ++owner_.log_.assignments;
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status OfferPolicy(grpc::ServerContext*, const v1::OfferPolicyRequest* request,
                           v1::OfferPolicyResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    owner_.log_.offers.push_back(request->manifest());
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status AcquireBatch(grpc::ServerContext*, const v1::AcquireBatchRequest* request,
                            v1::AcquireBatchResponse* response) override {
    MutexLock lock(owner_.mu_);
    const absl::Time until = Deadline(request->wait());
    const int64_t step = request->step();
    while (true) {
      const grpc::Status status = owner_.Check(request->member());
      if (!status.ok()) return status;
      const int64_t committed = owner_.log_.commits.empty() ? 0 : owner_.log_.commits.back().step();
      const bool ended = step == owner_.total_steps() + 1;
      if (step <= owner_.hold_after_ && (!ended || committed == owner_.total_steps())) break;
      if (absl::Now() >= until) return grpc::Status::OK;
      owner_.changed_.WaitFor(owner_.mu_, until - absl::Now());
    }
    ++owner_.log_.batches[step];
    owner_.changed_.NotifyAll();
    v1::Batch& share = *response->mutable_batch();
    share.set_step(step);
    if (step > owner_.total_steps()) return grpc::Status::OK;
    const v1::Batch whole = owner_.options_.batch(step);
    share.set_num_groups(whole.num_groups());
    share.set_num_samples(whole.num_samples());
    for (int g = request->member().rank(); g < whole.groups_size(); g += owner_.world_size_) {
      *share.add_groups() = whole.groups(g);
    }
    return grpc::Status::OK;
  }

  grpc::Status CommitStep(grpc::ServerContext*, const v1::CommitStepRequest* request,
                          v1::CommitStepResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    owner_.log_.commits.push_back(*request);
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status ReportCheckpoint(grpc::ServerContext*, const v1::ReportCheckpointRequest* request,
                                v1::ReportCheckpointResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    owner_.log_.checkpoints.push_back(*request);
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status FinishAssignment(grpc::ServerContext*, const v1::FinishAssignmentRequest* request,
                                v1::FinishAssignmentResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    owner_.log_.finishes.push_back(*request);
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status StoreSet(grpc::ServerContext*, const v1::StoreSetRequest* request,
                        v1::StoreSetResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    owner_.store_[request->key()] = request->value();
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status StoreGet(grpc::ServerContext* context, const v1::StoreGetRequest* request,
                        v1::StoreGetResponse* response) override {
    MutexLock lock(owner_.mu_);
    const absl::Time until = Deadline(request->wait());
    while (true) {
      const grpc::Status status = owner_.Check(request->member());
      if (!status.ok()) return status;
      const auto found = owner_.store_.find(request->key());
      if (found != owner_.store_.end()) {
        response->set_value(found->second);
        return grpc::Status::OK;
      }
      if (absl::Now() >= until || context->IsCancelled()) return grpc::Status::OK;
      owner_.changed_.WaitFor(owner_.mu_, absl::Milliseconds(100));
    }
  }

  grpc::Status StoreAdd(grpc::ServerContext*, const v1::StoreAddRequest* request,
                        v1::StoreAddResponse* response) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.Check(request->member());
    if (!status.ok()) return status;
    std::string& value = owner_.store_[request->key()];
    value = std::to_string((value.empty() ? 0 : std::stoll(value)) + request->amount());
    response->set_value(std::stoll(value));
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

 private:
  LearnerCoordinator& owner_;
};

class LearnerCoordinator::Fleet final : public v1::FleetService::Service {
 public:
  explicit Fleet(LearnerCoordinator& owner) : owner_(owner) {}

  grpc::Status Register(grpc::ServerContext*, const v1::RegisterRequest* request,
                        v1::RegisterResponse* response) override {
    MutexLock lock(owner_.mu_);
    response->set_worker_id(request->name() + "#" + std::to_string(++owner_.next_worker_));
    response->mutable_heartbeat_interval()->set_nanos(20'000'000);
    response->mutable_heartbeat_timeout()->set_seconds(5);
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest* request,
                         v1::HeartbeatResponse*) override {
    MutexLock lock(owner_.mu_);
    ++owner_.log_.phases[request->phase()];
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }
  grpc::Status Leave(grpc::ServerContext*, const v1::LeaveRequest*, v1::LeaveResponse*) override {
    return grpc::Status::OK;
  }

 private:
  LearnerCoordinator& owner_;
};

LearnerCoordinator::LearnerCoordinator(Options options)
    : options_(std::move(options)),
      hold_after_(std::numeric_limits<int64_t>::max()),
      learner_(std::make_unique<Learner>(*this)),
      fleet_(std::make_unique<Fleet>(*this)) {
  auto server = RpcServer::Start({}, {learner_.get(), fleet_.get()});
  ROLLCALL_CHECK(server.ok());
  server_ = std::move(server).value();
}

LearnerCoordinator::~LearnerCoordinator() {
  Fence();
  server_->Shutdown(absl::Seconds(1));
}

const std::string& LearnerCoordinator::address() const { return server_->address(); }

void LearnerCoordinator::OpenGroup(int world_size) {
  MutexLock lock(mu_);
  ++epoch_;
  active_ = true;
  world_size_ = world_size;
  ranks_.clear();
  store_.clear();
  changed_.NotifyAll();
}

void LearnerCoordinator::Fence() {
  MutexLock lock(mu_);
  active_ = false;
  ++epoch_;
  changed_.NotifyAll();
}

void LearnerCoordinator::HoldAfter(int64_t step) {
  MutexLock lock(mu_);
  hold_after_ = step;
  changed_.NotifyAll();
}

grpc::Status LearnerCoordinator::Check(const v1::GroupMember& member) {
  const bool known = active_ && member.epoch() == epoch_ && member.rank() >= 0 &&
                     member.rank() < static_cast<int>(ranks_.size()) &&
                     ranks_[member.rank()] == member.worker_id();
  if (known) return grpc::Status::OK;
  ++log_.fenced_calls;
  return {grpc::StatusCode::ABORTED, "fenced"};
}

LearnerCoordinator::Log LearnerCoordinator::log() const {
  MutexLock lock(mu_);
  return log_;
}

bool LearnerCoordinator::WaitUntil(const std::function<bool(const Log&)>& condition) {
  MutexLock lock(mu_);
  const absl::Time until = absl::Now() + absl::Seconds(30);
  while (!condition(log_)) {
    if (absl::Now() >= until) return false;
    changed_.WaitFor(mu_, until - absl::Now());
  }
  return true;
}

}  // namespace rollcall::testing
