#include "services/common/fleet/fleet_client.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "rollcall/v1/fleet.grpc.pb.h"
#include "services/base/sync/mutex.h"

namespace rollcall {
namespace {

constexpr absl::Duration kRegisterTimeout = absl::Seconds(5);
constexpr absl::Duration kMaxHeartbeatTimeout = absl::Seconds(5);
constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);
constexpr absl::Duration kFirstRetry = absl::Milliseconds(50);
constexpr absl::Duration kMaxRetry = absl::Seconds(1);
// Two processes with one name fence each other in turn; this is how fast at most.
constexpr absl::Duration kMinBetweenRegistrations = absl::Milliseconds(200);
constexpr absl::Duration kDefaultInterval = absl::Seconds(1);
constexpr absl::Duration kMinInterval = absl::Milliseconds(5);
constexpr absl::Duration kMaxInterval = absl::Minutes(1);
constexpr absl::Duration kLongWait = absl::Hours(1);

v1::ProcessRole ToProto(Role role) {
  switch (role) {
    case Role::kRollout:
      return v1::PROCESS_ROLE_ROLLOUT;
    case Role::kReward:
      return v1::PROCESS_ROLE_REWARD;
    case Role::kLearner:
      return v1::PROCESS_ROLE_LEARNER;
  }
  return v1::PROCESS_ROLE_UNSPECIFIED;
}

std::string HostName() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "";
}

absl::Duration IntervalOf(const v1::RegisterResponse& response) {
  if (!response.has_heartbeat_interval()) return kDefaultInterval;
  const absl::Duration asked = absl::Seconds(response.heartbeat_interval().seconds()) +
                               absl::Nanoseconds(response.heartbeat_interval().nanos());
  return std::clamp(asked, kMinInterval, kMaxInterval);
}

class GrpcFleetClient final : public FleetClient {
 public:
  GrpcFleetClient(const FleetOptions& options, const std::shared_ptr<grpc::Channel>& coordinator,
                  Logger& logger,
                  std::function<void(const std::vector<std::string>&)> on_jobs_ended)
      : logger_(logger),
        on_jobs_ended_(std::move(on_jobs_ended)),
        on_migrations_(options.on_migrations),
        stub_(v1::FleetService::NewStub(coordinator)),
        registration_(MakeRegistration(options)) {
    thread_ = std::thread([this] { Run(); });
  }

  ~GrpcFleetClient() override {
    std::string worker_id;
    {
      MutexLock lock(mu_);
      stopping_ = true;
      if (context_ != nullptr) context_->TryCancel();
      changed_.NotifyAll();
    }
    thread_.join();
    {
      MutexLock lock(mu_);
      worker_id.swap(worker_id_);
    }
    if (worker_id.empty()) return;
    v1::LeaveRequest request;
    request.set_worker_id(worker_id);
    v1::LeaveResponse response;
    const Status left = Call(*stub_, &v1::FleetService::Stub::Leave, request, &response,
                             {.timeout = kLeaveTimeout});
    if (!left.ok()) {
      logger_.Warning(
          "could not say good-bye to the coordinator, it will notice by itself error=\"" +
          Message(left) + "\"");
    }
  }

  std::string worker_id(absl::Duration timeout) override ABSL_LOCKS_EXCLUDED(mu_) {
    const absl::Time deadline = absl::Now() + timeout;
    MutexLock lock(mu_);
    while (worker_id_.empty() && !stopping_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) break;
      changed_.WaitFor(mu_, std::min(left, kLongWait));
    }
    return worker_id_;
  }

  void Invalidate(const std::string& worker_id) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (worker_id.empty() || worker_id != worker_id_) return;
    worker_id_.clear();
    changed_.NotifyAll();
  }

  void SetPhase(const std::string& phase, const std::string& job_id) override
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    phase_ = phase;
    job_id_ = job_id;
    ++progress_;
  }

  void Progress() override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    ++progress_;
  }

  void SetLoads(std::vector<EngineLoadReport> loads) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    loads_ = std::move(loads);
  }

  void SetLeaving() override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    is_leaving_ = true;
  }

  bool draining() const override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return draining_;
  }

 private:
  static v1::RegisterRequest MakeRegistration(const FleetOptions& options) {
    v1::RegisterRequest request;
    request.set_role(ToProto(options.role));
    request.set_name(options.name);
    request.set_host(HostName());
    request.set_pid(::getpid());
    request.set_address(options.address);
    request.set_metrics_address(options.metrics_address);
    return request;
  }

  void Run() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::Duration retry = kFirstRetry;
    absl::Time last_registration = absl::InfinitePast();
    absl::Time next_heartbeat = absl::InfinitePast();
    while (!stopping()) {
      const std::string worker_id = this->worker_id(absl::ZeroDuration());
      if (worker_id.empty()) {
        if (!SleepUntil(last_registration + kMinBetweenRegistrations)) return;
        if (Register()) {
          last_registration = absl::Now();
          next_heartbeat = last_registration;  // at once: it tells whether to drain
          retry = kFirstRetry;
        } else {
          if (!SleepUntil(absl::Now() + retry)) return;
          retry = std::min(retry * 2, kMaxRetry);
        }
        continue;
      }
      if (!WaitForHeartbeat(worker_id, next_heartbeat)) continue;
      // From the beginning of the call, so that a slow answer does not thin out the heartbeats.
      next_heartbeat = absl::Now() + interval();
      Heartbeat(worker_id);
    }
  }

  bool stopping() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return stopping_;
  }

  absl::Duration interval() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return interval_;
  }

  // False when the client stops.
  bool SleepUntil(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (!stopping_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return true;
      changed_.WaitFor(mu_, std::min(left, kLongWait));
    }
    return false;
  }

  // False when there is no heartbeat to send under this id any more.
  bool WaitForHeartbeat(const std::string& worker_id, absl::Time due) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (!stopping_ && worker_id_ == worker_id) {
      const absl::Duration left = due - absl::Now();
      if (left <= absl::ZeroDuration()) return true;
      changed_.WaitFor(mu_, std::min(left, kLongWait));
    }
    return false;
  }

  // One call that the destructor can cancel.
  template <typename Request, typename Response>
  Status CallOnce(grpc::Status (v1::FleetService::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                  const Request& request, Response* response, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mu_) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    {
      MutexLock lock(mu_);
      if (stopping_) return Cancelled("leaving the fleet");
      context_ = &context;
    }
    const Status status = FromGrpc((stub_.get()->*method)(&context, request, response));
    MutexLock lock(mu_);
    context_ = nullptr;
    return status;
  }

  bool Register() ABSL_LOCKS_EXCLUDED(mu_) {
    v1::RegisterResponse response;
    Status status =
        CallOnce(&v1::FleetService::Stub::Register, registration_, &response, kRegisterTimeout);
    if (status.ok() && response.worker_id().empty()) {
      status = Internal("the coordinator answered without a worker id");
    }
    if (!status.ok()) {
      ReportTrouble("cannot register with the coordinator, retrying", status);
      return false;
    }
    {
      MutexLock lock(mu_);
      worker_id_ = response.worker_id();
      interval_ = IntervalOf(response);
      changed_.NotifyAll();
    }
    trouble_.clear();
    logger_.Info("joined the fleet name=" + registration_.name() +
                 " worker_id=" + response.worker_id());
    return true;
  }

  void Heartbeat(const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mu_) {
    v1::HeartbeatRequest request;
    request.set_worker_id(worker_id);
    absl::Duration timeout;
    {
      MutexLock lock(mu_);
      request.set_phase(phase_);
      request.set_job_id(job_id_);
      request.set_progress(progress_);
      request.set_is_leaving(is_leaving_);
      for (const EngineLoadReport& load : loads_) {
        v1::EngineLoad& out = *request.add_loads();
        out.set_job_id(load.job_id);
        out.set_policy_version(load.policy_version);
        out.set_freeness(load.freeness);
        out.set_num_running(load.num_running);
        out.set_num_waiting(load.num_waiting);
        out.set_num_used_blocks(load.num_used_blocks);
        out.set_num_blocks(load.num_blocks);
      }
      timeout = std::clamp(interval_ * 2, kMaxRetry, kMaxHeartbeatTimeout);
    }
    v1::HeartbeatResponse response;
    const Status status = CallOnce(&v1::FleetService::Stub::Heartbeat, request, &response, timeout);
    if (status.code() == StatusCode::kAborted) {
      Invalidate(worker_id);
      ReportTrouble("the coordinator does not know this process any more, registering again",
                    status);
      return;
    }
    if (!status.ok()) {
      ReportTrouble("no answer to the heartbeat, retrying", status);
      return;
    }
    if (!trouble_.empty()) {
      trouble_.clear();
      logger_.Info("the coordinator answers again");
    }
    {
      MutexLock lock(mu_);
      draining_ = response.drain();
    }
    if (on_jobs_ended_ && response.ended_job_ids_size() > 0) {
      on_jobs_ended_({response.ended_job_ids().begin(), response.ended_job_ids().end()});
    }
    if (on_migrations_ && response.migrations_size() > 0) {
      std::vector<MigrationRequest> orders;
      for (const v1::MigrationOrder& order : response.migrations()) {
        orders.push_back({order.job_id(), order.destination(), order.max_sequences()});
      }
      on_migrations_(orders);
    }
  }

  // Once per state, not per retry.
  void ReportTrouble(const std::string& what, const Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    if (what == trouble_ || stopping()) return;
    trouble_ = what;
    logger_.Warning(what + " code=" + absl::StatusCodeToString(status.code()) + " error=\"" +
                    Message(status) + "\"");
  }

  Logger& logger_;
  const std::function<void(const std::vector<std::string>&)> on_jobs_ended_;
  const std::function<void(const std::vector<MigrationRequest>&)> on_migrations_;
  const std::unique_ptr<v1::FleetService::Stub> stub_;
  const v1::RegisterRequest registration_;
  std::string trouble_;  // last one reported; used by the thread only

  mutable Mutex mu_;
  CondVar changed_;
  std::string worker_id_ ABSL_GUARDED_BY(mu_);
  std::string phase_ ABSL_GUARDED_BY(mu_) = "idle";
  std::string job_id_ ABSL_GUARDED_BY(mu_);
  uint64_t progress_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<EngineLoadReport> loads_ ABSL_GUARDED_BY(mu_);
  bool is_leaving_ ABSL_GUARDED_BY(mu_) = false;
  absl::Duration interval_ ABSL_GUARDED_BY(mu_) = kDefaultInterval;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the call in flight

  std::thread thread_;
};

}  // namespace

std::unique_ptr<FleetClient> FleetClient::Start(
    const FleetOptions& options, std::shared_ptr<grpc::Channel> coordinator, Logger& logger,
    std::function<void(const std::vector<std::string>&)> on_jobs_ended) {
  return std::make_unique<GrpcFleetClient>(options, coordinator, logger, std::move(on_jobs_ended));
}

}  // namespace rollcall
