#include "reward_server/reward_service.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "reward_server/score_codec.h"
#include "services/common/rpc/client.h"

namespace rollcall {
namespace {

constexpr absl::Duration kRoomWait = absl::Milliseconds(200);
constexpr absl::Duration kRegistrationWait = absl::Milliseconds(500);
constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kMaxPause = absl::Seconds(1);
constexpr int kFailuresPerLogLine = 30;
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
constexpr absl::Duration kOutboxWait = absl::Milliseconds(200);
constexpr absl::Duration kDefaultLease = absl::Seconds(30);
// A score must be ready this long before its lease ends, so that it can still be handed in: a tenth
// of the lease, at most this.
constexpr absl::Duration kMaxSubmitMargin = absl::Seconds(2);

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void ToProto(absl::Duration duration, google::protobuf::Duration* proto) {
  proto->set_seconds(absl::ToInt64Seconds(duration));
  proto->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(duration - absl::Seconds(absl::ToInt64Seconds(duration)))));
}

bool IsWorthRetrying(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kDeadlineExceeded ||
         code == StatusCode::kResourceExhausted || code == StatusCode::kAborted ||
         code == StatusCode::kCancelled;
}

}  // namespace

// One task on its way through the server.
struct RewardService::Sample {
  v1::ScoreTask task;
  absl::Time leased_at;
  absl::Time lease_deadline;
  absl::Time score_deadline;
  std::shared_ptr<const ScoreInput> input;
  // Each is written once, before `num_pending` goes down.
  std::vector<Component> components;
  std::atomic<size_t> num_pending{0};
};

RewardService::RewardService(const RewardOptions& options, RewardDependencies dependencies)
    : options_(options),
      fleet_(dependencies.fleet),
      logger_(dependencies.logger),
      clock_(dependencies.clock),
      on_drain_(std::move(dependencies.on_drain)),
      metrics_(dependencies.metrics),
      stub_(v1::ExperienceService::NewStub(dependencies.coordinator)),
      jobs_([this](const std::string& job_id) { return FetchSpec(job_id); }, options.environment,
            dependencies.clock),
      outbox_(static_cast<size_t>(options.max_in_flight) +
              static_cast<size_t>(options.max_lease_tasks)),
      scheduler_(std::make_unique<ScoreScheduler>(options.scheduler, dependencies.clock, metrics_)),
      prepare_threads_(MakeThreadPool(options.prepare_threads,
                                      static_cast<size_t>(options.max_in_flight) +
                                          static_cast<size_t>(options.max_lease_tasks))) {
  fetch_thread_ = std::thread([this] { RunFetch(); });
  submit_thread_ = std::thread([this] { RunSubmit(); });
}

RewardService::~RewardService() { Drain(absl::ZeroDuration()); }

void RewardService::DropJobs(const std::vector<std::string>& job_ids) {
  for (const std::string& job_id : job_ids) jobs_.Drop(job_id);
}

StatusOr<v1::JobSpec> RewardService::FetchSpec(const std::string& job_id) {
  v1::GetJobSpecRequest request;
  request.set_job_id(job_id);
  v1::GetJobSpecResponse response;
  ROLLCALL_RETURN_IF_ERROR(Call(*stub_, &v1::ExperienceService::Stub::GetJobSpec, request,
                                &response, {.timeout = kCallTimeout, .max_attempts = 3}));
  return std::move(*response.mutable_spec());
}

void RewardService::Drain(absl::Duration timeout) {
  {
    MutexLock lock(mu_);
    if (drained_) return;
    draining_ = true;
    changed_.NotifyAll();
  }
  // At most one call for tasks is under way, and it ends after lease_wait.
  fetch_thread_.join();
  {
    MutexLock lock(mu_);
    drained_ = true;
    const absl::Time deadline = clock_.Now() + timeout;
    while (num_in_flight_ > 0 && clock_.Now() < deadline) {
      changed_.WaitFor(mu_, std::min(kRoomWait, deadline - clock_.Now()));
    }
    if (num_in_flight_ > 0) {
      logger_.Warning(fmt::format("Gave up score tasks at shutdown tasks={}", num_in_flight_));
    }
    giving_up_ = true;
  }
  outbox_.Close();
  prepare_threads_.reset();
  scheduler_.reset();
  submit_thread_.join();
}

bool RewardService::Pause(absl::Duration duration) {
  MutexLock lock(mu_);
  if (!draining_) changed_.WaitFor(mu_, duration);
  return !draining_;
}

int RewardService::WaitForRoom() {
  const absl::Time start = clock_.Now();
  MutexLock lock(mu_);
  const auto capacity = static_cast<size_t>(options_.max_in_flight);
  if (num_in_flight_ >= capacity) {
    if (!draining_) changed_.WaitFor(mu_, kRoomWait);
    metrics_.WaitedForRoom(absl::ToDoubleSeconds(clock_.Now() - start));
  }
  if (draining_ || num_in_flight_ >= capacity) return 0;
  return std::min(options_.max_lease_tasks, static_cast<int>(capacity - num_in_flight_));
}

void RewardService::RunFetch() {
  absl::Duration pause = kFirstPause;
  int num_failures = 0;  // in a row
  while (true) {
    {
      MutexLock lock(mu_);
      if (draining_) return;
    }
    if (fleet_.draining()) {
      if (on_drain_) on_drain_();
      return;
    }
    const int room = WaitForRoom();
    if (room == 0) continue;
    const std::string worker_id = fleet_.worker_id(kRegistrationWait);
    if (worker_id.empty()) continue;
    const Status status = LeaseOnce(worker_id, room);
    if (status.ok()) {
      pause = kFirstPause;
      num_failures = 0;
      continue;
    }
    metrics_.LeaseCallFailed();
    if (status.code() == StatusCode::kAborted) fleet_.Invalidate(worker_id);
    if (num_failures++ % kFailuresPerLogLine == 0) {
      logger_.Warning(fmt::format("Cannot get score tasks error=\"{}\"", status.ToString()));
    }
    if (!Pause(pause)) return;
    pause = std::min(pause * 2, kMaxPause);
  }
}

Status RewardService::LeaseOnce(const std::string& worker_id, int max_tasks) {
  v1::LeaseScoresRequest request;
  request.set_worker_id(worker_id);
  request.set_max_tasks(max_tasks);
  ToProto(options_.lease_wait, request.mutable_wait());
  v1::LeaseScoresResponse response;
  const absl::Time start = clock_.Now();
  ROLLCALL_RETURN_IF_ERROR(Call(*stub_, &v1::ExperienceService::Stub::LeaseScores, request,
                                &response, {.timeout = options_.lease_wait + kCallTimeout}));
  metrics_.WaitedForWork(absl::ToDoubleSeconds(clock_.Now() - start));
  bool is_idle = false;
  {
    MutexLock lock(mu_);
    num_in_flight_ += static_cast<size_t>(response.tasks_size());
    metrics_.InFlight(num_in_flight_);
    is_idle = num_in_flight_ == 0;
  }
  if (is_idle) {
    fleet_.SetPhase("idle", "");
  } else if (response.tasks_size() > 0) {
    fleet_.SetPhase("scoring", response.tasks(0).trajectory().key().job_id());
  }
  for (v1::ScoreTask& task : *response.mutable_tasks()) Start(std::move(task));
  return OkStatus();
}

void RewardService::Start(v1::ScoreTask task) {
  auto sample = std::make_shared<Sample>();
  sample->task = std::move(task);
  sample->leased_at = clock_.Now();
  const absl::Duration lease =
      sample->task.has_deadline() ? FromProto(sample->task.deadline()) : kDefaultLease;
  sample->lease_deadline = sample->leased_at + lease;
  sample->score_deadline = sample->lease_deadline - std::min(lease / 10, kMaxSubmitMargin);
  const Status scheduled = prepare_threads_->Schedule([this, sample] { Prepare(sample); });
  if (!scheduled.ok()) {
    // The coordinator sent more than was asked for.
    metrics_.Shed();
    FailSample(sample, {FailureKind::kInfrastructure, "overloaded", Message(scheduled)});
  }
}

void RewardService::Prepare(const std::shared_ptr<Sample>& sample) {
  const v1::SampleKey& key = sample->task.trajectory().key();
  JobContextOr job = jobs_.Get(key.job_id());
  if (job.context == nullptr) return FailSample(sample, std::move(job.failure));
  ScoreInputOr made = MakeScoreInput(sample->task.trajectory(), sample->task.row_json(),
                                     job.context->answer_column, *job.context->tokenizer);
  if (!made.ok) return FailSample(sample, std::move(made.failure));
  sample->input = std::make_shared<const ScoreInput>(std::move(made.input));

  const std::vector<JobScorer>& scorers =
      key.purpose() == v1::SAMPLE_PURPOSE_EVALUATE ? job.context->evaluate : job.context->reward;
  for (const JobScorer& scorer : scorers) {
    sample->components.push_back({.name = scorer.name, .weight = scorer.weight});
  }
  if (scorers.empty()) return FinishSample(sample, ComposeReward({}));
  sample->num_pending = scorers.size();
  for (size_t i = 0; i < scorers.size(); ++i) {
    scheduler_->Submit(scorers[i].scorer, sample->input,
                       {.attempt_timeout = scorers[i].timeout,
                        .max_retries = scorers[i].max_retries,
                        .deadline = sample->score_deadline},
                       [this, sample, i](const ScoreResult& result) {
                         sample->components[i].result = result;
                         if (sample->num_pending.fetch_sub(1) == 1) {
                           FinishSample(sample, ComposeReward(sample->components));
                         }
                       });
  }
}

void RewardService::FailSample(const std::shared_ptr<Sample>& sample, ScoreFailure failure) {
  metrics_.ScoreFailed(failure);
  FinishSample(sample, ScoreResult::Failure(std::move(failure)));
}

void RewardService::FinishSample(const std::shared_ptr<Sample>& sample, const ScoreResult& reward) {
  metrics_.TaskDone(reward, absl::ToDoubleSeconds(clock_.Now() - sample->leased_at));
  fleet_.Progress();
  Outgoing outgoing;
  outgoing.deadline = sample->lease_deadline;
  outgoing.score.set_lease_id(sample->task.lease_id());
  *outgoing.score.mutable_score() =
      MakeScore(sample->task.trajectory().key(), reward, sample->components,
                sample->input == nullptr ? std::string_view() : sample->input->completion);
  // The outbox has room for every task that is held; it refuses only when closed.
  const Status pushed = outbox_.Push(std::move(outgoing), absl::ZeroDuration());
  if (!pushed.ok()) {
    metrics_.ScoresDropped(1);
    TasksLeft(1);
  }
}

void RewardService::TasksLeft(size_t count) {
  MutexLock lock(mu_);
  num_in_flight_ -= count;
  metrics_.InFlight(num_in_flight_);
  changed_.NotifyAll();
}

void RewardService::RunSubmit() {
  while (true) {
    std::vector<Outgoing> batch =
        outbox_.PopBatch(static_cast<size_t>(options_.max_submit_scores), kOutboxWait);
    if (!batch.empty()) {
      const size_t count = batch.size();
      Submit(std::move(batch));
      TasksLeft(count);
    } else if (outbox_.closed()) {
      return;
    }
  }
}

void RewardService::Submit(std::vector<Outgoing> batch) {
  v1::SubmitScoresRequest request;
  absl::Time deadline = absl::InfinitePast();
  for (Outgoing& outgoing : batch) {
    deadline = std::max(deadline, outgoing.deadline);
    *request.add_scores() = std::move(outgoing.score);
  }
  absl::Duration pause = kFirstPause;
  Status status = Unavailable("not registered with the coordinator");
  // One try at least, also for what is late: the coordinator decides.
  do {
    // A batch that was refused under an old registration is handed in under the new one: scores are
    // idempotent, and a coordinator that came back may still await them.
    const std::string worker_id = fleet_.worker_id(kRegistrationWait);
    if (!worker_id.empty()) {
      request.set_worker_id(worker_id);
      v1::SubmitScoresResponse response;
      status = Call(*stub_, &v1::ExperienceService::Stub::SubmitScores, request, &response,
                    {.timeout = kCallTimeout});
      if (status.ok()) return LogRefusals(response);
      metrics_.SubmitCallFailed();
      if (status.code() == StatusCode::kAborted) fleet_.Invalidate(worker_id);
      if (!IsWorthRetrying(status.code())) break;
    }
    if (giving_up_) break;
    MutexLock lock(mu_);
    changed_.WaitFor(mu_, pause);
    pause = std::min(pause * 2, kMaxPause);
  } while (clock_.Now() < deadline);
  metrics_.ScoresDropped(batch.size());
  logger_.Warning(fmt::format("Scores were not handed in scores={} error=\"{}\"", batch.size(),
                              status.ToString()));
}

void RewardService::LogRefusals(const v1::SubmitScoresResponse& response) {
  for (const v1::SubmitResult& result : response.results()) {
    if (result.outcome() != v1::SUBMIT_OUTCOME_REJECTED) continue;
    metrics_.ScoresDropped(1);
    logger_.Error(
        fmt::format("The coordinator rejected a score job={} iteration={} prompt={} "
                    "sample={} error=\"{}\"",
                    result.key().job_id(), result.key().iteration(), result.key().prompt_id(),
                    result.key().sample_index(), result.message()));
  }
}

}  // namespace rollcall
