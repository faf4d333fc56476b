#include "services/coordinator/coordinator_service.h"

#include <atomic>
#include <utility>

#include "absl/time/clock.h"
#include "rollcall/v1/coordinator.grpc.pb.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollcall/v1/fleet.grpc.pb.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/common/rpc/unary.h"
#include "services/coordinator/watch_stream.h"

namespace rollcall::coordinator {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

// Answers one gRPC call. Dropping it unanswered tells the caller to try again.
template <typename Response>
class Answer {
 public:
  Answer(PendingUnary* call, Response* response) : call_(call), response_(response) {}
  ~Answer() {
    if (!answered_) call_->Finish(Unavailable("the coordinator stops: call again"));
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  void Set(const Status& status, Response response) {
    answered_ = true;
    if (status.ok()) response_->Swap(&response);
    call_->Finish(status);
  }

 private:
  PendingUnary* const call_;
  Response* const response_;
  bool answered_ = false;
};

// A core call together with the reactor that gRPC wants back.
template <typename Response>
std::pair<PendingUnary*, Call<Response>> MakeCall(Response* response) {
  auto abandoned = std::make_shared<std::atomic<bool>>(false);
  auto* reactor = new PendingUnary([abandoned] { abandoned->store(true); });
  auto answer = std::make_shared<Answer<Response>>(reactor, response);
  Call<Response> call;
  call.abandoned = abandoned;
  call.reply = [answer](const Status& status, Response value) {
    answer->Set(status, std::move(value));
  };
  return {reactor, std::move(call)};
}

// Measures the handler of one method, without the time that a call waits for work.
class Timed {
 public:
  explicit Timed(Histogram& histogram) : histogram_(histogram), start_(absl::Now()) {}
  ~Timed() { histogram_.Observe(absl::ToDoubleSeconds(absl::Now() - start_)); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Histogram& histogram_;
  const absl::Time start_;
};

struct Handler {
  Handler(Coordinator& coordinator_in, MetricsRegistry& metrics, const char* method)
      : coordinator(coordinator_in),
        seconds(metrics.GetHistogram("rollcall_coordinator_call_seconds",
                                     "Time in the handler of a call, without waiting for work.",
                                     LatencyBuckets(), {{"method", method}})) {}

  // Runs fn(core, turn, call) in a turn; the core answers the call.
  template <typename Response, typename Fn>
  ServerUnaryReactor* Run(Response* response, Fn&& fn) {
    Timed timed(seconds);
    auto [reactor, call] = MakeCall(response);
    coordinator.Do([&fn, &call](Core& core, Turn& turn) { fn(core, turn, std::move(call)); });
    return reactor;
  }

  // Runs fn(core, turn), which returns a status or the response itself, and answers with it.
  template <typename Response, typename Fn>
  ServerUnaryReactor* Answered(Response* response, Fn&& fn) {
    return Run(response, [&fn](Core& core, Turn& turn, Call<Response> call) {
      StatusOr<Response> result = fn(core, turn);
      if (result.ok()) {
        Reply(turn, call, OkStatus(), *std::move(result));
      } else {
        Reply(turn, call, result.status());
      }
    });
  }

  Coordinator& coordinator;
  Histogram& seconds;
};

class FleetServiceImpl final : public v1::FleetService::CallbackService {
 public:
  FleetServiceImpl(Coordinator& coordinator, MetricsRegistry& metrics)
      : register_(coordinator, metrics, "Register"),
        heartbeat_(coordinator, metrics, "Heartbeat"),
        leave_(coordinator, metrics, "Leave") {}

  ServerUnaryReactor* Register(CallbackServerContext*, const v1::RegisterRequest* request,
                               v1::RegisterResponse* response) override {
    return register_.Answered(
        response, [&](Core& core, Turn& turn) { return core.Register(turn, *request); });
  }
  ServerUnaryReactor* Heartbeat(CallbackServerContext*, const v1::HeartbeatRequest* request,
                                v1::HeartbeatResponse* response) override {
    return heartbeat_.Answered(
        response, [&](Core& core, Turn& turn) { return core.Heartbeat(turn, *request); });
  }
  ServerUnaryReactor* Leave(CallbackServerContext*, const v1::LeaveRequest* request,
                            v1::LeaveResponse* response) override {
    return leave_.Answered(response, [&](Core& core, Turn& turn) -> StatusOr<v1::LeaveResponse> {
      ROLLCALL_RETURN_IF_ERROR(core.Leave(turn, *request));
      return v1::LeaveResponse();
    });
  }

 private:
  Handler register_, heartbeat_, leave_;
};

class ExperienceServiceImpl final : public v1::ExperienceService::CallbackService {
 public:
  ExperienceServiceImpl(Coordinator& coordinator, MetricsRegistry& metrics)
      : lease_prompts_(coordinator, metrics, "LeasePrompts"),
        submit_trajectories_(coordinator, metrics, "SubmitTrajectories"),
        lease_scores_(coordinator, metrics, "LeaseScores"),
        submit_scores_(coordinator, metrics, "SubmitScores"),
        get_job_spec_(coordinator, metrics, "GetJobSpec") {}

  ServerUnaryReactor* LeasePrompts(CallbackServerContext*, const v1::LeasePromptsRequest* request,
                                   v1::LeasePromptsResponse* response) override {
    return lease_prompts_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.LeasePrompts(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* SubmitTrajectories(CallbackServerContext*,
                                         const v1::SubmitTrajectoriesRequest* request,
                                         v1::SubmitTrajectoriesResponse* response) override {
    // Copied before the core is locked: the tokens move from the copy into the core.
    v1::SubmitTrajectoriesRequest copy = *request;
    return submit_trajectories_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.SubmitTrajectories(turn, std::move(copy), std::move(call));
    });
  }
  ServerUnaryReactor* LeaseScores(CallbackServerContext*, const v1::LeaseScoresRequest* request,
                                  v1::LeaseScoresResponse* response) override {
    return lease_scores_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.LeaseScores(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* SubmitScores(CallbackServerContext*, const v1::SubmitScoresRequest* request,
                                   v1::SubmitScoresResponse* response) override {
    v1::SubmitScoresRequest copy = *request;
    return submit_scores_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.SubmitScores(turn, std::move(copy), std::move(call));
    });
  }
  ServerUnaryReactor* GetJobSpec(CallbackServerContext*, const v1::GetJobSpecRequest* request,
                                 v1::GetJobSpecResponse* response) override {
    return get_job_spec_.Answered(response,
                                  [&](Core& core, Turn&) { return core.GetJobSpec(*request); });
  }

 private:
  Handler lease_prompts_, submit_trajectories_, lease_scores_, submit_scores_, get_job_spec_;
};

class PolicyServiceImpl final : public v1::PolicyService::CallbackService {
 public:
  PolicyServiceImpl(Coordinator& coordinator, MetricsRegistry& metrics)
      : get_manifest_(coordinator, metrics, "GetManifest"),
        submit_receipt_(coordinator, metrics, "SubmitReceipt") {}

  ServerUnaryReactor* GetManifest(CallbackServerContext*, const v1::GetManifestRequest* request,
                                  v1::GetManifestResponse* response) override {
    return get_manifest_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.GetManifest(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* SubmitReceipt(CallbackServerContext*, const v1::SubmitReceiptRequest* request,
                                    v1::SubmitReceiptResponse* response) override {
    return submit_receipt_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.SubmitReceipt(turn, *request, std::move(call));
    });
  }

 private:
  Handler get_manifest_, submit_receipt_;
};

class LearnerServiceImpl final : public v1::LearnerService::CallbackService {
 public:
  LearnerServiceImpl(Coordinator& coordinator, MetricsRegistry& metrics)
      : acquire_assignment_(coordinator, metrics, "AcquireAssignment"),
        offer_policy_(coordinator, metrics, "OfferPolicy"),
        acquire_batch_(coordinator, metrics, "AcquireBatch"),
        commit_step_(coordinator, metrics, "CommitStep"),
        report_checkpoint_(coordinator, metrics, "ReportCheckpoint"),
        finish_assignment_(coordinator, metrics, "FinishAssignment"),
        store_set_(coordinator, metrics, "StoreSet"),
        store_get_(coordinator, metrics, "StoreGet"),
        store_add_(coordinator, metrics, "StoreAdd") {}

  ServerUnaryReactor* AcquireAssignment(CallbackServerContext*,
                                        const v1::AcquireAssignmentRequest* request,
                                        v1::AcquireAssignmentResponse* response) override {
    return acquire_assignment_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.AcquireAssignment(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* OfferPolicy(CallbackServerContext*, const v1::OfferPolicyRequest* request,
                                  v1::OfferPolicyResponse* response) override {
    return offer_policy_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.OfferPolicy(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* AcquireBatch(CallbackServerContext*, const v1::AcquireBatchRequest* request,
                                   v1::AcquireBatchResponse* response) override {
    return acquire_batch_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.AcquireBatch(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* CommitStep(CallbackServerContext*, const v1::CommitStepRequest* request,
                                 v1::CommitStepResponse* response) override {
    return commit_step_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.CommitStep(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* ReportCheckpoint(CallbackServerContext*,
                                       const v1::ReportCheckpointRequest* request,
                                       v1::ReportCheckpointResponse* response) override {
    return report_checkpoint_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.ReportCheckpoint(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* FinishAssignment(CallbackServerContext*,
                                       const v1::FinishAssignmentRequest* request,
                                       v1::FinishAssignmentResponse* response) override {
    return finish_assignment_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.FinishAssignment(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* StoreSet(CallbackServerContext*, const v1::StoreSetRequest* request,
                               v1::StoreSetResponse* response) override {
    return store_set_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.StoreSet(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* StoreGet(CallbackServerContext*, const v1::StoreGetRequest* request,
                               v1::StoreGetResponse* response) override {
    return store_get_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.StoreGet(turn, *request, std::move(call));
    });
  }
  ServerUnaryReactor* StoreAdd(CallbackServerContext*, const v1::StoreAddRequest* request,
                               v1::StoreAddResponse* response) override {
    return store_add_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.StoreAdd(turn, *request, std::move(call));
    });
  }

 private:
  Handler acquire_assignment_, offer_policy_, acquire_batch_, commit_step_, report_checkpoint_,
      finish_assignment_, store_set_, store_get_, store_add_;
};

class JobServiceImpl final : public v1::JobService::CallbackService {
 public:
  JobServiceImpl(Coordinator& coordinator, Executor& executor, MetricsRegistry& metrics)
      : coordinator_(coordinator),
        executor_(executor),
        list_jobs_(coordinator, metrics, "ListJobs"),
        get_job_(coordinator, metrics, "GetJob"),
        control_job_(coordinator, metrics, "ControlJob"),
        get_cluster_(coordinator, metrics, "GetCluster") {}

  void SetSelf(const SelfInfo& self) { self_ = self; }

  ServerUnaryReactor* SubmitJob(CallbackServerContext*, const v1::SubmitJobRequest* request,
                                v1::SubmitJobResponse* response) override {
    auto [reactor, call] = MakeCall(response);
    // The request lives as long as the reactor, and that until the call is answered.
    const Status scheduled = executor_.Schedule(
        [this, request, call = call] { coordinator_.SubmitJob(*request, call); });
    if (!scheduled.ok()) call.reply(scheduled, {});
    return reactor;
  }
  ServerUnaryReactor* ListJobs(CallbackServerContext*, const v1::ListJobsRequest*,
                               v1::ListJobsResponse* response) override {
    return list_jobs_.Answered(response,
                               [&](Core& core, Turn& turn) -> StatusOr<v1::ListJobsResponse> {
                                 return core.ListJobs(turn.now);
                               });
  }
  ServerUnaryReactor* GetJob(CallbackServerContext*, const v1::GetJobRequest* request,
                             v1::GetJobResponse* response) override {
    return get_job_.Answered(
        response, [&](Core& core, Turn& turn) { return core.GetJob(turn.now, request->job_id()); });
  }
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(CallbackServerContext*,
                                                   const v1::WatchJobRequest* request) override {
    return StartWatch(coordinator_, *request);
  }
  ServerUnaryReactor* PauseJob(CallbackServerContext*, const v1::ControlJobRequest* request,
                               v1::ControlJobResponse* response) override {
    return Control(Core::Control::kPause, *request, response);
  }
  ServerUnaryReactor* ResumeJob(CallbackServerContext*, const v1::ControlJobRequest* request,
                                v1::ControlJobResponse* response) override {
    return Control(Core::Control::kResume, *request, response);
  }
  ServerUnaryReactor* CancelJob(CallbackServerContext*, const v1::ControlJobRequest* request,
                                v1::ControlJobResponse* response) override {
    return Control(Core::Control::kCancel, *request, response);
  }
  ServerUnaryReactor* InspectSamples(CallbackServerContext*,
                                     const v1::InspectSamplesRequest* request,
                                     v1::InspectSamplesResponse* response) override {
    auto [reactor, call] = MakeCall(response);
    coordinator_.InspectSamples(*request, std::move(call));
    return reactor;
  }
  ServerUnaryReactor* GetCluster(CallbackServerContext*, const v1::GetClusterRequest*,
                                 v1::GetClusterResponse* response) override {
    return get_cluster_.Answered(response,
                                 [&](Core& core, Turn& turn) -> StatusOr<v1::GetClusterResponse> {
                                   v1::GetClusterResponse cluster = core.GetCluster(turn.now);
                                   v1::ProcessInfo& self = *cluster.add_processes();
                                   self.set_role(v1::PROCESS_ROLE_COORDINATOR);
                                   self.set_name(self_.name);
                                   self.set_host(self_.host);
                                   self.set_pid(self_.pid);
                                   self.set_address(self_.address);
                                   self.set_metrics_address(self_.metrics_address);
                                   self.set_phase("serving");
                                   self.mutable_since_heartbeat();
                                   cluster.set_version(self_.version);
                                   // The coordinator comes first.
                                   for (int i = cluster.processes_size() - 1; i > 0; --i) {
                                     cluster.mutable_processes()->SwapElements(i, i - 1);
                                   }
                                   return cluster;
                                 });
  }

 private:
  ServerUnaryReactor* Control(Core::Control control, const v1::ControlJobRequest& request,
                              v1::ControlJobResponse* response) {
    return control_job_.Run(response, [&](Core& core, Turn& turn, auto call) {
      core.ControlJob(turn, control, request, std::move(call));
    });
  }

  Coordinator& coordinator_;
  Executor& executor_;
  Handler list_jobs_, get_job_, control_job_, get_cluster_;
  SelfInfo self_;
};

class CoordinatorServicesImpl final : public CoordinatorServices {
 public:
  CoordinatorServicesImpl(Coordinator& coordinator, Executor& executor, MetricsRegistry& metrics)
      : fleet_(coordinator, metrics),
        experience_(coordinator, metrics),
        policy_(coordinator, metrics),
        learner_(coordinator, metrics),
        job_(coordinator, executor, metrics) {}

  std::vector<grpc::Service*> services() override {
    return {&fleet_, &experience_, &policy_, &learner_, &job_};
  }
  void SetSelf(const SelfInfo& self) override { job_.SetSelf(self); }

 private:
  FleetServiceImpl fleet_;
  ExperienceServiceImpl experience_;
  PolicyServiceImpl policy_;
  LearnerServiceImpl learner_;
  JobServiceImpl job_;
};

}  // namespace

std::unique_ptr<CoordinatorServices> CoordinatorServices::Create(Coordinator& coordinator,
                                                                 Executor& executor,
                                                                 MetricsRegistry& metrics) {
  return std::make_unique<CoordinatorServicesImpl>(coordinator, executor, metrics);
}

}  // namespace rollcall::coordinator
