#include "rollout_worker/trajectory_submitter.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "services/common/rpc/client.h"

namespace rollcall {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(10);
constexpr absl::Duration kShortestPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);

bool IsWorthAnotherAttempt(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kResourceExhausted;
}

}  // namespace

TrajectorySubmitter::TrajectorySubmitter(const std::shared_ptr<grpc::Channel>& coordinator,
                                         absl::Duration grace, Events events,
                                         RolloutMetrics& metrics, Logger& logger,
                                         const Clock& clock)
    : experience_(v1::ExperienceService::NewStub(coordinator)),
      grace_(grace),
      events_(std::move(events)),
      metrics_(metrics),
      logger_(logger),
      clock_(clock),
      thread_([this] { Loop(); }) {}

TrajectorySubmitter::~TrajectorySubmitter() { Stop(); }

void TrajectorySubmitter::Add(LeasedSamples lease) {
  MutexLock lock(mu_);
  waiting_.push_back(std::move(lease));
  changed_.NotifyAll();
}

size_t TrajectorySubmitter::DropIf(const std::function<bool(const LeasedSamples&)>& drop) {
  MutexLock lock(mu_);
  return std::erase_if(waiting_, drop);
}

size_t TrajectorySubmitter::num_waiting() const {
  MutexLock lock(mu_);
  return waiting_.size();
}

void TrajectorySubmitter::Finish(absl::Time time) {
  MutexLock lock(mu_);
  farewell_ = std::min(farewell_, time);
  changed_.NotifyAll();
  while ((!waiting_.empty() || is_submitting_) && clock_.Now() < farewell_) {
    changed_.WaitFor(mu_, absl::Milliseconds(100));
  }
}

void TrajectorySubmitter::Stop() {
  {
    MutexLock lock(mu_);
    is_stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void TrajectorySubmitter::Loop() {
  while (true) {
    std::optional<LeasedSamples> lease;
    {
      MutexLock lock(mu_);
      while (waiting_.empty() && !is_stopping_) changed_.WaitFor(mu_, absl::Seconds(1));
      if (waiting_.empty()) return;
      if (clock_.Now() >= farewell_) {
        // A process that leaves does not wait out a coordinator that is away.
        logger_.Warning(fmt::format("{} answers were not handed in", waiting_.size()));
        waiting_.clear();
        continue;
      }
      lease = std::move(waiting_.front());
      waiting_.pop_front();
      is_submitting_ = true;
    }
    Submit(*lease);
    {
      MutexLock lock(mu_);
      is_submitting_ = false;
      changed_.NotifyAll();
    }
    events_.on_progress();
  }
}

void TrajectorySubmitter::Submit(const LeasedSamples& lease) {
  const v1::SubmitTrajectoriesRequest request = ToSubmitRequest(lease);
  if (request.failures_size() > 0) {
    metrics_.SamplesFailed(request.failures_size());
    const v1::Failure& failure = request.failures(0).failure();
    logger_.Warning(fmt::format("samples could not be made: {} ({}) count={} lease={} job={}",
                                failure.message(), failure.reason(), request.failures_size(),
                                lease.proto.lease_id(), lease.proto.job_id()));
  }
  Status status;
  for (int attempt = 0;; ++attempt) {
    v1::SubmitTrajectoriesResponse response;
    status = Call(*experience_, &v1::ExperienceService::Stub::SubmitTrajectories, request,
                  &response, {.timeout = kCallTimeout});
    if (status.ok()) {
      metrics_.LeaseSubmitted(absl::ToDoubleSeconds(clock_.Now() - lease.received));
      for (const v1::SubmitResult& result : response.results()) {
        if (result.outcome() != v1::SUBMIT_OUTCOME_REJECTED) continue;
        logger_.Error(fmt::format("the coordinator rejected a sample: {} job={} prompt={} index={}",
                                  result.message(), result.key().job_id(), result.key().prompt_id(),
                                  result.key().sample_index()));
      }
      return;
    }
    metrics_.SubmitFailed();
    if (status.code() == StatusCode::kAborted) {
      events_.on_fenced(lease.worker_id);
      break;
    }
    if (!IsWorthAnotherAttempt(status) || clock_.Now() > lease.deadline + grace_) break;
    if (!WaitForAttempt(attempt)) break;
  }
  metrics_.LeaseDropped();
  logger_.Warning(fmt::format("an answer was not taken: {} lease={} job={}", Message(status),
                              lease.proto.lease_id(), lease.proto.job_id()));
}

bool TrajectorySubmitter::WaitForAttempt(int attempt) {
  const absl::Duration pause =
      std::min(kLongestPause, kShortestPause * (1 << std::min(attempt, 5)));
  const absl::Time until = clock_.Now() + pause;
  MutexLock lock(mu_);
  while (clock_.Now() < until && clock_.Now() < farewell_) {
    changed_.WaitFor(mu_, until - clock_.Now());
  }
  return clock_.Now() < farewell_;
}

}  // namespace rollcall
