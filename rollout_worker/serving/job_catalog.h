// The running jobs of a coordinator as models: a request for a job is answered with its newest
// policy that this worker may sample from.
//
// A thread asks the coordinator for its jobs every few seconds. Tokenizer and chat template are
// those of the model directory that the job started from, which this process has to be able to
// read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/coordinator.grpc.pb.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollout_worker/rollout_service.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/served_model.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Who waits for which weights. Thread-safe.
class PolicyTickets {
 public:
  using Done = std::function<void(StatusOr<ModelId>)>;
  uint64_t Add(Done done) ABSL_LOCKS_EXCLUDED(mu_);
  void Usable(uint64_t ticket, ModelId model) { Answer(ticket, model); }
  void Failed(uint64_t ticket, const WorkFailure& failure);

 private:
  void Answer(uint64_t ticket, const StatusOr<ModelId>& model) ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;
  uint64_t next_ ABSL_GUARDED_BY(mu_) = kFirstGeneratorGroup;
  std::map<uint64_t, Done> waiting_ ABSL_GUARDED_BY(mu_);  // bounded by what the generator admits
};

// Thread-safe.
class JobCatalog final : public ModelCatalog {
 public:
  // What it borrows must outlive it; models of it may live longer but must not be used then.
  struct Parts {
    std::shared_ptr<grpc::Channel> coordinator;
    PolicyTickets& tickets;
    Logger& logger;
    const Clock& clock;
    absl::Duration refresh_interval = absl::Seconds(2);
  };
  explicit JobCatalog(const Parts& parts);
  ~JobCatalog() override;
  // Until then there are no models. Call once; `rollouts` is borrowed until Stop.
  void Start(RolloutService& rollouts);
  // Idempotent.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  std::vector<std::shared_ptr<const ServedModel>> List() override ABSL_LOCKS_EXCLUDED(mu_);
  // By job id, or by the name of the job that has it and was submitted last.
  StatusOr<std::shared_ptr<const ServedModel>> Find(const std::string& name) override
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Job {
    std::string name;
    std::shared_ptr<const ServedModel> model;
  };
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  void Refresh() ABSL_LOCKS_EXCLUDED(mu_);
  StatusOr<std::shared_ptr<const ServedModel>> Read(const std::string& job_id);

  const std::unique_ptr<v1::JobService::Stub> jobs_service_;
  const std::unique_ptr<v1::ExperienceService::Stub> experience_;
  PolicyTickets& tickets_;
  Logger& logger_;
  const Clock& clock_;
  const absl::Duration refresh_interval_;

  // Of the thread.
  RolloutService* rollouts_ = nullptr;
  std::set<std::string> unreadable_;  // said once

  Mutex mu_;
  CondVar stopped_;
  std::map<std::string, Job> jobs_ ABSL_GUARDED_BY(mu_);  // by job id
  bool is_stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::jthread thread_;
};

}  // namespace rollcall
