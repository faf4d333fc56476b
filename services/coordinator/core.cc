#include "services/coordinator/core.h"

#include <algorithm>
#include <utility>

namespace rollcall::coordinator {

Core::Core(const CoreOptions& options, JobEnvironment environment, Journal& journal)
    : options_(options),
      environment_(environment),
      journal_(journal),
      registry_(options.registry, options.incarnation),
      prompt_leases_(static_cast<uint64_t>(options.incarnation) << 40),
      score_leases_(static_cast<uint64_t>(options.incarnation) << 40) {}

Status Core::RestoreJob(StoredJob stored, std::shared_ptr<const PreparedJob> prepared,
                        SqliteStore& store, absl::Time now) {
  const JobNumber number = stored.record.job;
  const std::string request_id = stored.record.request_id;
  ROLLCALL_ASSIGN_OR_RETURN(
      std::unique_ptr<JobRun> run,
      JobRun::Restore(std::move(stored), std::move(prepared), environment_, store, now));
  next_job_ = std::max(next_job_, number + 1);
  if (!request_id.empty()) job_of_request_[request_id] = number;
  if (run->ended()) {
    ended_job_ids_.push_back(JobId(number));
    ended_[number] = std::move(run);
    while (ended_.size() > options_.max_ended_jobs_listed) ended_.erase(ended_.begin());
  } else {
    active_[number] = std::move(run);
    touched_.insert(number);
  }
  return OkStatus();
}

JobRun* Core::Find(JobNumber job) {
  if (const auto found = active_.find(job); found != active_.end()) return found->second.get();
  if (const auto found = ended_.find(job); found != ended_.end()) return found->second.get();
  return nullptr;
}

const JobRun* Core::FindJob(JobNumber job) const { return const_cast<Core*>(this)->Find(job); }

StatusOr<JobRun*> Core::FindById(const std::string& job_id) {
  JobRun* run = Find(ParseJobId(job_id));
  if (run == nullptr) return NotFound("there is no job '" + job_id.substr(0, 64) + "'");
  return run;
}

absl::Duration Core::WaitOf(const google::protobuf::Duration& wait) const {
  return std::clamp(FromProto(wait), absl::ZeroDuration(), options_.max_wait);
}

void Core::FailJob(Turn& turn, JobNumber job, const std::string& reason) {
  JobRun* run = Find(job);
  if (run == nullptr || run->ended()) return;
  run->Fail(turn, reason);
  Touch(*run);
}

std::string Core::NameOf(const std::string& worker_id) {
  const auto worker = registry_.Find(worker_id);
  return worker.ok() ? (*worker)->name : worker_id;
}

void Core::DropWaiters() {
  lease_waiters_.clear();
  score_waiters_.clear();
  assignment_waiters_.clear();
  for (const auto& [number, run] : active_) run->DropWaiters();
  for (const auto& [number, run] : ended_) run->DropWaiters();
}

void Core::BatchRead(Turn& turn, JobNumber job, int64_t step,
                     StatusOr<std::vector<StoredSample>> samples) {
  JobRun* run = Find(job);
  if (run == nullptr) return;
  run->BatchRead(turn, step, std::move(samples));
  Touch(*run);
}

void Core::EndJob(Turn& turn, JobRun& run) {
  const JobNumber number = run.number();
  for (LeaseTable* table : {&prompt_leases_, &score_leases_}) (void)table->TakeOfJob(number);
  (void)turn;
  ended_job_ids_.push_back(JobId(number));
  auto node = active_.extract(number);
  ended_[number] = std::move(node.mapped());
  while (ended_.size() > options_.max_ended_jobs_listed) ended_.erase(ended_.begin());
}

std::vector<Core::WantedRead> Core::Settle(Turn& turn) {
  std::vector<WantedRead> reads;
  FormGroups(turn);
  const std::set<JobNumber> touched = std::exchange(touched_, {});
  for (const JobNumber number : touched) {
    const auto found = active_.find(number);
    if (found == active_.end()) continue;
    JobRun& run = *found->second;
    run.Advance(turn);
    for (const int64_t step : run.TakeWantedReads()) reads.push_back({number, step});
    if (run.ended()) EndJob(turn, run);
  }
  ServeLeaseWaiters(turn);
  ServeScoreWaiters(turn);
  return reads;
}

}  // namespace rollcall::coordinator
