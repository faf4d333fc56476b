#include "rollout_worker/serving/job_catalog.h"

#include <utility>

#include "services/common/rpc/client.h"
#include "services/common/storage/files.h"
#include "services/model/config/model_config.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;

bool IsServed(v1::JobState state) {
  return state == v1::JOB_STATE_RUNNING || state == v1::JOB_STATE_PAUSED;
}

class JobPolicy final : public ServedPolicy {
 public:
  JobPolicy(std::string job_id, RolloutService& rollouts, PolicyTickets& tickets)
      : job_id_(std::move(job_id)), rollouts_(rollouts), tickets_(tickets) {}

  const std::string& job_id() const override { return job_id_; }
  void Acquire(absl::Time deadline, std::function<void(StatusOr<ModelId>)> done) override {
    rollouts_.WantPolicy(tickets_.Add(std::move(done)),
                         {.job_id = job_id_, .policy_version = 0, .exact = false}, deadline);
  }
  void Dropped(ModelId id) override { rollouts_.PolicyDropped(job_id_, id); }

 private:
  const std::string job_id_;
  RolloutService& rollouts_;
  PolicyTickets& tickets_;
};

}  // namespace

// --- PolicyTickets ------------------------------------------------------------------------------

uint64_t PolicyTickets::Add(Done done) {
  MutexLock lock(mu_);
  const uint64_t ticket = next_++;
  waiting_.emplace(ticket, std::move(done));
  return ticket;
}

void PolicyTickets::Failed(uint64_t ticket, const WorkFailure& failure) {
  if (failure.reason == "deadline") {
    return Answer(ticket, DeadlineExceeded("the weights did not come in time"));
  }
  Answer(ticket, Unavailable("no weights to sample from: " + failure.message));
}

void PolicyTickets::Answer(uint64_t ticket, const StatusOr<ModelId>& model) {
  Done done;
  {
    MutexLock lock(mu_);
    const auto it = waiting_.find(ticket);
    if (it == waiting_.end()) return;
    done = std::move(it->second);
    waiting_.erase(it);
  }
  done(model);
}

// --- JobCatalog ---------------------------------------------------------------------------------

JobCatalog::JobCatalog(const Parts& parts)
    : jobs_service_(v1::JobService::NewStub(parts.coordinator)),
      experience_(v1::ExperienceService::NewStub(parts.coordinator)),
      tickets_(parts.tickets),
      logger_(parts.logger),
      clock_(parts.clock),
      refresh_interval_(parts.refresh_interval) {}

JobCatalog::~JobCatalog() { Stop(); }

void JobCatalog::Start(RolloutService& rollouts) {
  rollouts_ = &rollouts;
  thread_ = std::jthread([this] { Loop(); });
}

void JobCatalog::Stop() {
  {
    MutexLock lock(mu_);
    is_stopping_ = true;
    jobs_.clear();
    stopped_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

std::vector<std::shared_ptr<const ServedModel>> JobCatalog::List() {
  MutexLock lock(mu_);
  std::vector<std::shared_ptr<const ServedModel>> models;
  models.reserve(jobs_.size());
  for (const auto& [job_id, job] : jobs_) models.push_back(job.model);
  return models;
}

StatusOr<std::shared_ptr<const ServedModel>> JobCatalog::Find(const std::string& name) {
  MutexLock lock(mu_);
  if (name.empty() && jobs_.size() == 1) return jobs_.begin()->second.model;
  if (const auto job = jobs_.find(name); job != jobs_.end()) return job->second.model;
  std::string ids;
  // Ids of jobs grow with the time of their submission.
  for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) {
    if (!name.empty() && it->second.name == name) return it->second.model;
    ids += (ids.empty() ? "'" : ", '") + it->first + "'";
  }
  return NotFound("there is no model '" + name + "'; " +
                  (ids.empty() ? "no job is running" : "jobs that run: " + ids));
}

void JobCatalog::Loop() {
  while (true) {
    Refresh();
    MutexLock lock(mu_);
    if (!is_stopping_) stopped_.WaitFor(mu_, refresh_interval_);
    if (is_stopping_) return;
  }
}

void JobCatalog::Refresh() {
  v1::ListJobsResponse response;
  const Status listed = Call(*jobs_service_, &v1::JobService::Stub::ListJobs, v1::ListJobsRequest(),
                             &response, {.timeout = absl::Seconds(5)});
  // Without a coordinator its jobs go on for a while; so does what is served.
  if (!listed.ok()) return;
  std::map<std::string, Job> jobs;
  for (const v1::JobStatus& status : response.jobs()) {
    if (!IsServed(status.state())) continue;
    {
      MutexLock lock(mu_);
      if (const auto known = jobs_.find(status.job_id()); known != jobs_.end()) {
        jobs.emplace(*known);
        continue;
      }
    }
    auto model = Read(status.job_id());
    if (model.ok()) {
      jobs.emplace(status.job_id(), Job{status.name(), *std::move(model)});
      unreadable_.erase(status.job_id());
    } else if (unreadable_.insert(status.job_id()).second) {
      logger_.Warning("a job cannot be served: " + Message(model.status()) +
                      " job=" + status.job_id());
    }
  }
  MutexLock lock(mu_);
  if (!is_stopping_) jobs_ = std::move(jobs);
}

StatusOr<std::shared_ptr<const ServedModel>> JobCatalog::Read(const std::string& job_id) {
  v1::GetJobSpecRequest request;
  request.set_job_id(job_id);
  v1::GetJobSpecResponse response;
  ROLLCALL_RETURN_IF_ERROR(Call(*experience_, &v1::ExperienceService::Stub::GetJobSpec, request,
                                &response, {.timeout = absl::Seconds(5)}));
  const std::string& directory = response.spec().model().path();
  const std::string config_path = directory + "/config.json";
  ROLLCALL_ASSIGN_OR_RETURN(const std::string json, ReadFile(config_path, kMaxConfigBytes));
  ROLLCALL_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(json, config_path));
  ROLLCALL_ASSIGN_OR_RETURN(ServedModel model,
                            ReadServedModel(directory, config, job_id, clock_.Now()));
  model.policy = std::make_shared<JobPolicy>(job_id, *rollouts_, tickets_);
  return std::make_shared<const ServedModel>(std::move(model));
}

}  // namespace rollcall
