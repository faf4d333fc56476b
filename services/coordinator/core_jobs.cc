// Jobs as users see them: submitted, listed, controlled, watched.
#include <algorithm>
#include <utility>

#include "services/coordinator/core.h"

namespace rollcall::coordinator {

StatusOr<Core::Submission> Core::BeginSubmit(Turn& turn, const std::string& request_id) {
  (void)turn;
  Submission submission;
  if (!request_id.empty()) {
    if (const auto known = job_of_request_.find(request_id); known != job_of_request_.end()) {
      submission.job = known->second;
      submission.known = true;
      if (const JobRun* run = Find(known->second)) submission.run_dir = run->record().run_dir;
      return submission;
    }
    if (submitting_.contains(request_id)) {
      return Unavailable("the same request is being served: call again");
    }
  }
  if (active_.size() + submitting_.size() >= options_.max_active_jobs) {
    return ResourceExhausted(std::to_string(active_.size()) + " jobs are active, at most " +
                             std::to_string(options_.max_active_jobs) + " may be");
  }
  if (!request_id.empty()) submitting_.insert(request_id);
  submission.job = next_job_++;
  return submission;
}

void Core::AbandonSubmit(Turn& turn, const std::string& request_id) {
  (void)turn;
  submitting_.erase(request_id);
}

void Core::AddJob(Turn& turn, JobRecord record, std::shared_ptr<const PreparedJob> prepared,
                  Call<v1::SubmitJobResponse> call) {
  const JobNumber number = record.job;
  submitting_.erase(record.request_id);
  if (!record.request_id.empty()) job_of_request_[record.request_id] = number;
  const int64_t num_dropped = prepared->data.num_dropped() + prepared->evaluation.num_dropped();
  if (num_dropped > 0) {
    environment_.metrics.RowsDropped(static_cast<double>(num_dropped));
    const int64_t num_too_long = prepared->data.num_too_long + prepared->evaluation.num_too_long;
    environment_.logger.Warning(
        "rows are dropped job=" + JobId(number) + " too_long=" + std::to_string(num_too_long) +
        " without_preference=" + std::to_string(num_dropped - num_too_long));
  }
  environment_.logger.Info("job admitted job=" + JobId(number) +
                           " name=" + record.spec->run().name() + " run_dir=" + record.run_dir);
  v1::SubmitJobResponse response;
  response.set_job_id(JobId(number));
  response.set_run_dir(record.run_dir);
  turn.records.push_back(record);
  auto run =
      std::make_unique<JobRun>(std::move(record), std::move(prepared), environment_, turn.now);
  turn.records.push_back(JobStatusRecord{number, run->Snapshot(turn.now)});
  Touch(*run);
  active_[number] = std::move(run);
  ReplyDurable(turn, call, std::move(response));
}

v1::ListJobsResponse Core::ListJobs(absl::Time now) const {
  v1::ListJobsResponse response;
  for (const auto& [number, run] : ended_) *response.add_jobs() = run->Snapshot(now);
  for (const auto& [number, run] : active_) *response.add_jobs() = run->Snapshot(now);
  std::sort(response.mutable_jobs()->begin(), response.mutable_jobs()->end(),
            [](const v1::JobStatus& a, const v1::JobStatus& b) { return a.job_id() < b.job_id(); });
  return response;
}

StatusOr<v1::GetJobResponse> Core::GetJob(absl::Time now, const std::string& job_id) const {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, const_cast<Core*>(this)->FindById(job_id));
  v1::GetJobResponse response;
  *response.mutable_status() = run->Snapshot(now);
  *response.mutable_spec() = run->spec();
  return response;
}

void Core::ControlJob(Turn& turn, Control control, const v1::ControlJobRequest& request,
                      Call<v1::ControlJobResponse> call) {
  const auto run = FindById(request.job_id());
  Status status = run.status();
  if (run.ok()) {
    switch (control) {
      case Control::kPause:
        status = (*run)->Pause(turn);
        break;
      case Control::kResume:
        status = (*run)->Resume(turn);
        break;
      case Control::kCancel:
        status = (*run)->Cancel(turn);
        break;
    }
  }
  if (!status.ok()) {
    Reply(turn, call, status);
    return;
  }
  Touch(**run);
  v1::ControlJobResponse response;
  *response.mutable_status() = (*run)->Snapshot(turn.now);
  ReplyDurable(turn, call, std::move(response));
}

Status Core::WatchJob(Turn& turn, const std::string& job_id, std::shared_ptr<JobWatcher> watcher) {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, FindById(job_id));
  run->AddWatcher(turn, std::move(watcher));
  return OkStatus();
}

v1::GetClusterResponse Core::GetCluster(absl::Time now) const {
  v1::GetClusterResponse response;
  std::vector<const Worker*> workers;
  for (const auto& [id, worker] : registry_.workers()) workers.push_back(&worker);
  std::sort(workers.begin(), workers.end(),
            [](const Worker* a, const Worker* b) { return a->name < b->name; });
  for (const Worker* worker : workers) {
    v1::ProcessInfo& info = *response.add_processes();
    info.set_worker_id(worker->id);
    info.set_role(worker->role);
    info.set_name(worker->name);
    info.set_host(worker->host);
    info.set_pid(worker->pid);
    info.set_address(worker->address);
    info.set_metrics_address(worker->metrics_address);
    info.set_phase(worker->phase);
    info.set_job_id(worker->job_id);
    *info.mutable_since_heartbeat() = ToProto(now - worker->last_heartbeat);
  }
  return response;
}

StatusOr<Core::JobSource> Core::FindJobSource(const std::string& job_id) const {
  ROLLCALL_ASSIGN_OR_RETURN(JobRun * run, const_cast<Core*>(this)->FindById(job_id));
  JobSource source;
  source.job = run->number();
  source.spec = run->record().spec;
  if (run->prepared() != nullptr) source.tokenizer = run->prepared()->tokenizer;
  return source;
}

}  // namespace rollcall::coordinator
