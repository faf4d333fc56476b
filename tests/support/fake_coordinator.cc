#include "tests/support/fake_coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "services/base/status/status.h"

namespace rollcall::testing {
namespace {

grpc::Status AbortedStatus() {
  return {grpc::StatusCode::ABORTED, "this worker id is void, register again"};
}

absl::Time Deadline(const google::protobuf::Duration& wait) {
  return absl::Now() + absl::Seconds(wait.seconds()) + absl::Nanoseconds(wait.nanos());
}

}  // namespace

class FakeCoordinator::Experience final : public v1::ExperienceService::Service {
 public:
  explicit Experience(FakeCoordinator& owner) : owner_(owner) {}

  grpc::Status LeasePrompts(grpc::ServerContext*, const v1::LeasePromptsRequest* request,
                            v1::LeasePromptsResponse* response) override {
    MutexLock lock(owner_.mu_);
    owner_.log_.largest_max_leases =
        std::max(owner_.log_.largest_max_leases, request->max_leases());
    const absl::Time until = Deadline(request->wait());
    while (true) {
      const grpc::Status status = owner_.CheckWorker(request->worker_id());
      if (!status.ok()) return status;
      if (!owner_.leases_.empty() || absl::Now() >= until) break;
      owner_.changed_.WaitFor(owner_.mu_, until - absl::Now());
    }
    while (!owner_.leases_.empty() && response->leases_size() < request->max_leases()) {
      *response->add_leases() = std::move(owner_.leases_.front());
      owner_.leases_.erase(owner_.leases_.begin());
    }
    owner_.log_.num_waiting_leases = static_cast<int>(owner_.leases_.size());
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status SubmitTrajectories(grpc::ServerContext*,
                                  const v1::SubmitTrajectoriesRequest* request,
                                  v1::SubmitTrajectoriesResponse* response) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.CheckWorker(request->worker_id());
    if (!status.ok()) return status;
    owner_.changed_.NotifyAll();
    if (owner_.refuse_submissions_ > 0) {
      --owner_.refuse_submissions_;
      ++owner_.log_.refused;
      return {grpc::StatusCode::UNAVAILABLE, "not now"};
    }
    for (const v1::Trajectory& trajectory : request->trajectories()) {
      v1::SubmitResult& result = *response->add_results();
      *result.mutable_key() = trajectory.key();
      result.set_outcome(v1::SUBMIT_OUTCOME_ACCEPTED);
    }
    owner_.log_.submissions.push_back(*request);
    return grpc::Status::OK;
  }

  grpc::Status GetJobSpec(grpc::ServerContext*, const v1::GetJobSpecRequest*,
                          v1::GetJobSpecResponse* response) override {
    MutexLock lock(owner_.mu_);
    response->mutable_spec()->mutable_model()->set_path(owner_.model_path_);
    return grpc::Status::OK;
  }

 private:
  FakeCoordinator& owner_;
};

class FakeCoordinator::Policy final : public v1::PolicyService::Service {
 public:
  explicit Policy(FakeCoordinator& owner) : owner_(owner) {}

  grpc::Status GetManifest(grpc::ServerContext*, const v1::GetManifestRequest* request,
                           v1::GetManifestResponse* response) override {
    MutexLock lock(owner_.mu_);
    const absl::Time until = Deadline(request->wait());
    while (true) {
      const grpc::Status status = owner_.CheckWorker(request->worker_id());
      if (!status.ok()) return status;
      const auto& manifests = owner_.manifests_;
      const auto found = request->exact_version()
                             ? manifests.find(request->policy_version())
                             : (manifests.empty() ? manifests.end() : std::prev(manifests.end()));
      if (found != manifests.end() && found->first >= request->policy_version()) {
        *response->mutable_manifest() = found->second;
        return grpc::Status::OK;
      }
      if (absl::Now() >= until) return grpc::Status::OK;
      owner_.changed_.WaitFor(owner_.mu_, until - absl::Now());
    }
  }

  grpc::Status SubmitReceipt(grpc::ServerContext*, const v1::SubmitReceiptRequest* request,
                             v1::SubmitReceiptResponse*) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.CheckWorker(request->receipt().worker_id());
    if (!status.ok()) return status;
    owner_.log_.receipts.push_back(request->receipt());
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

 private:
  FakeCoordinator& owner_;
};

class FakeCoordinator::Fleet final : public v1::FleetService::Service {
 public:
  explicit Fleet(FakeCoordinator& owner) : owner_(owner) {}

  grpc::Status Register(grpc::ServerContext*, const v1::RegisterRequest* request,
                        v1::RegisterResponse* response) override {
    MutexLock lock(owner_.mu_);
    const std::string id =
        request->name() + "#" + std::to_string(owner_.log_.registered.size() + 1);
    owner_.log_.registered.push_back(id);
    owner_.changed_.NotifyAll();
    response->set_worker_id(id);
    response->mutable_heartbeat_interval()->set_nanos(20'000'000);
    response->mutable_heartbeat_timeout()->set_seconds(10);
    return grpc::Status::OK;
  }

  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest* request,
                         v1::HeartbeatResponse* response) override {
    MutexLock lock(owner_.mu_);
    const grpc::Status status = owner_.CheckWorker(request->worker_id());
    if (!status.ok()) return status;
    owner_.log_.phases.insert(request->phase());
    response->set_drain(owner_.drain_);
    for (const std::string& job_id : owner_.ended_) response->add_ended_job_ids(job_id);
    owner_.ended_.clear();
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status Leave(grpc::ServerContext*, const v1::LeaveRequest* request,
                     v1::LeaveResponse*) override {
    MutexLock lock(owner_.mu_);
    owner_.log_.left.push_back(request->worker_id());
    owner_.changed_.NotifyAll();
    return grpc::Status::OK;
  }

 private:
  FakeCoordinator& owner_;
};

FakeCoordinator::FakeCoordinator(const std::vector<grpc::Service*>& more)
    : experience_(std::make_unique<Experience>(*this)),
      policy_(std::make_unique<Policy>(*this)),
      fleet_(std::make_unique<Fleet>(*this)) {
  std::vector<grpc::Service*> services = {experience_.get(), policy_.get(), fleet_.get()};
  services.insert(services.end(), more.begin(), more.end());
  auto server = RpcServer::Start({}, services);
  ROLLCALL_CHECK(server.ok(), "the fake coordinator cannot listen");
  server_ = *std::move(server);
}

FakeCoordinator::~FakeCoordinator() { server_->Shutdown(absl::Milliseconds(100)); }

const std::string& FakeCoordinator::address() const { return server_->address(); }

grpc::Status FakeCoordinator::CheckWorker(const std::string& worker_id) {
  if (worker_id.empty() || fenced_.contains(worker_id)) return AbortedStatus();
  return grpc::Status::OK;
}

void FakeCoordinator::SetModelPath(const std::string& path) {
  MutexLock lock(mu_);
  model_path_ = path;
}

void FakeCoordinator::Publish(v1::WeightManifest manifest) {
  MutexLock lock(mu_);
  const int64_t version = manifest.policy_version();
  manifests_[version] = std::move(manifest);
  changed_.NotifyAll();
}

void FakeCoordinator::Give(v1::PromptLease lease) {
  MutexLock lock(mu_);
  leases_.push_back(std::move(lease));
  log_.num_waiting_leases = static_cast<int>(leases_.size());
  changed_.NotifyAll();
}

void FakeCoordinator::Fence(const std::string& worker_id) {
  MutexLock lock(mu_);
  fenced_.insert(worker_id);
  changed_.NotifyAll();
}

void FakeCoordinator::EndJob(const std::string& job_id) {
  MutexLock lock(mu_);
  ended_.push_back(job_id);
}

void FakeCoordinator::AskToDrain() {
  MutexLock lock(mu_);
  drain_ = true;
}

void FakeCoordinator::RefuseSubmissions(int count) {
  MutexLock lock(mu_);
  refuse_submissions_ = count;
}

FakeCoordinator::Log FakeCoordinator::log() const {
  MutexLock lock(mu_);
  return log_;
}

bool FakeCoordinator::WaitUntil(const std::function<bool(const Log&)>& condition) {
  MutexLock lock(mu_);
  const absl::Time until = absl::Now() + absl::Seconds(20);
  while (!condition(log_)) {
    if (absl::Now() >= until) return false;
    changed_.WaitFor(mu_, absl::Milliseconds(100));
  }
  return true;
}

}  // namespace rollcall::testing
