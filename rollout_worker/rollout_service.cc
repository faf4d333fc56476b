#include "rollout_worker/rollout_service.h"

#include <algorithm>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "rollout_worker/lease_codec.h"
#include "rollout_worker/migration/migration_service.h"
#include "services/common/rpc/client.h"

namespace rollcall {
namespace {

// More answers than this waiting for the coordinator means that it is slow or away.
constexpr size_t kMaxUnsubmitted = 256;
constexpr absl::Duration kLongestPause = absl::Seconds(1);
constexpr absl::Duration kDefaultDeadline = absl::Seconds(30);
// A drain has to end even when the coordinator is away.
constexpr absl::Duration kFarewell = absl::Seconds(5);

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void SetDuration(absl::Duration from, google::protobuf::Duration* to) {
  const int64_t nanos = absl::ToInt64Nanoseconds(from);
  to->set_seconds(nanos / 1'000'000'000);
  to->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace

RolloutService::RolloutService(const RolloutOptions& options, Parts parts)
    : options_(options),
      // A quarter more than the engine runs at once keeps it busy while the next leases travel.
      max_held_(static_cast<size_t>(options.engine_loop.engine.scheduler.max_sequences) * 5 / 4),
      experience_(v1::ExperienceService::NewStub(parts.coordinator)),
      fleet_(parts.fleet),
      logger_(parts.logger),
      clock_(parts.clock),
      on_drain_(std::move(parts.on_drain)),
      guest_(std::move(parts.guest)),
      metrics_(parts.metrics) {
  EngineEvents events{
      .on_samples = [this](auto samples) { OnSamples(std::move(samples)); },
      .on_group_failed = [this](uint64_t id, const Status& status) { OnGroupFailed(id, status); },
      .on_step = [this] { fleet_.Progress(); },
      .on_loads = [this](const std::vector<JobLoad>& loads) { ReportLoads(loads); }};
  std::vector<std::pair<uint64_t, EngineEvents>> users;
  users.emplace_back(0, std::move(events));
  if (guest_.first_id > 0) users.emplace_back(guest_.first_id, guest_.events);
  if (parts.migration_events.on_samples) {
    users.emplace_back(kFirstMigratedGroup, std::move(parts.migration_events));
  }
  events = SplitByGroup(std::move(users));
  engine_loop_ = std::make_unique<EngineLoop>(options.engine_loop, std::move(events), parts.metrics,
                                              metrics_, logger_, clock_);
  loader_ = std::make_unique<PolicyLoader>(
      options.loader,
      PolicyEvents{
          .on_model = [this](auto model) { engine_loop_->AddModel(std::move(model)); },
          .on_usable =
              [this](uint64_t id, ModelId model) {
                if (IsOfGuest(id)) {
                  guest_.on_usable(id, model);
                } else {
                  OnUsable(id, model);
                }
              },
          .on_newest = [this](const std::string& job_id,
                              ModelId model) { engine_loop_->SwitchGroups(job_id, model); },
          .on_failed =
              [this](uint64_t id, const WorkFailure& failure) {
                if (IsOfGuest(id)) {
                  guest_.on_failed(id, failure);
                } else if (failure.reason == "deadline") {
                  FailLease(id, std::nullopt);
                } else {
                  FailLease(id, failure);
                }
              }},
      parts.coordinator, fleet_, metrics_, logger_, clock_);
  {
    MutexLock lock(mu_);
    UpdatePhase();
  }
  submitter_ = std::make_unique<TrajectorySubmitter>(
      parts.coordinator, options.submit_grace,
      TrajectorySubmitter::Events{.on_progress = [this] { WakeUp(); },
                                  .on_fenced =
                                      [this](const std::string& worker_id) {
                                        fleet_.Invalidate(worker_id);
                                        DropLeasesOf(worker_id);
                                      }},
      metrics_, logger_, clock_);
  poll_thread_ = std::jthread([this] { PollLoop(); });
}

void RolloutService::ReportLoads(const std::vector<JobLoad>& loads) {
  std::vector<EngineLoadReport> reports;
  reports.reserve(loads.size());
  for (const JobLoad& load : loads) {
    reports.push_back({.job_id = load.job_id,
                       .policy_version = load.policy_version,
                       .freeness = load.freeness,
                       .num_running = load.num_running,
                       .num_waiting = load.num_waiting,
                       .num_used_blocks = load.num_used_blocks,
                       .num_blocks = load.num_blocks});
  }
  fleet_.SetLoads(std::move(reports));
}

RolloutService::~RolloutService() {
  Drain(absl::ZeroDuration());
  submitter_->Stop();
  // The loader posts to the engine loop, the engine loop to the loader: both threads stop before
  // either object goes.
  loader_->Stop();
  engine_loop_->Stop();
}

size_t RolloutService::num_held() const {
  MutexLock lock(mu_);
  return num_held_;
}

// --- taking leases --------------------------------------------------------------------------

void RolloutService::PollLoop() {
  absl::Duration pause = absl::ZeroDuration();
  std::string last_worker_id;
  std::string last_error;
  bool told_to_drain = false;
  while (true) {
    {
      MutexLock lock(mu_);
      if (draining_) return;
    }
    if (pause > absl::ZeroDuration()) PausePolling(pause);
    const std::string worker_id = fleet_.worker_id(options_.poll_wait);
    if (fleet_.draining()) {
      pause = options_.poll_wait;
      if (!std::exchange(told_to_drain, true) && on_drain_) on_drain_();
      continue;
    }
    if (worker_id.empty()) continue;
    if (worker_id != last_worker_id && !last_worker_id.empty()) DropLeasesOf(last_worker_id);
    last_worker_id = worker_id;
    const int max_leases = WaitForRoom();
    if (max_leases == 0) continue;

    v1::LeasePromptsRequest request;
    request.set_worker_id(worker_id);
    request.set_max_leases(max_leases);
    SetDuration(options_.poll_wait, request.mutable_wait());
    v1::LeasePromptsResponse response;
    const Status status = Call(*experience_, &v1::ExperienceService::Stub::LeasePrompts, request,
                               &response, {.timeout = options_.poll_wait + absl::Seconds(5)});
    if (status.ok()) {
      pause = absl::ZeroDuration();
      last_error.clear();
      for (v1::PromptLease& lease : *response.mutable_leases()) {
        TakeLease(std::move(lease), worker_id);
      }
      continue;
    }
    if (status.code() == StatusCode::kAborted) {
      fleet_.Invalidate(worker_id);
      DropLeasesOf(worker_id);
      continue;
    }
    pause = std::clamp(pause * 2, absl::Milliseconds(50), kLongestPause);
    if (Message(status) != last_error) {
      last_error = Message(status);
      logger_.Warning(fmt::format("no leases from the coordinator, trying again: {}", last_error));
    }
  }
}

int RolloutService::WaitForRoom() {
  MutexLock lock(mu_);
  const auto has_room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return num_held_ < max_held_ && submitter_->num_waiting() < kMaxUnsubmitted;
  };
  if (!has_room() && !draining_) changed_.WaitFor(mu_, options_.poll_wait);
  if (!has_room() || draining_) return 0;
  const size_t room = (max_held_ - num_held_) / samples_per_lease_;
  // Small bites, so that workers that start together share what there is.
  const size_t bite = static_cast<size_t>(options_.engine_loop.engine.scheduler.max_sequences) /
                      (4 * samples_per_lease_);
  return static_cast<int>(std::max<size_t>(1, std::min(room, bite)));
}

void RolloutService::PausePolling(absl::Duration time) {
  MutexLock lock(mu_);
  const absl::Time until = absl::Now() + time;
  while (!draining_ && absl::Now() < until) changed_.WaitFor(mu_, until - absl::Now());
}

void RolloutService::TakeLease(v1::PromptLease proto, const std::string& worker_id) {
  const WantedPolicy wanted{proto.job_id(), proto.policy_version(), proto.exact_version()};
  const absl::Time now = clock_.Now();
  const absl::Duration time_limit =
      proto.has_deadline() ? FromProto(proto.deadline()) : kDefaultDeadline;
  if (proto.sample_indices().empty()) {
    logger_.Warning(fmt::format("a lease without samples was ignored lease={} job={}",
                                proto.lease_id(), proto.job_id()));
    return;
  }
  uint64_t id = 0;
  bool hand_back = false;
  {
    MutexLock lock(mu_);
    id = next_id_++;
    const auto num_samples = static_cast<size_t>(proto.sample_indices_size());
    samples_per_lease_ = num_samples;
    leases_.emplace(id, Lease{{.proto = std::move(proto),
                               .worker_id = worker_id,
                               .received = now,
                               .deadline = now + time_limit,
                               .finished = absl::InfiniteFuture(),
                               .samples = std::vector<std::optional<CompletedSample>>(num_samples),
                               .failure = std::nullopt},
                              num_samples});
    num_held_ += num_samples;
    ++num_waiting_for_weights_;
    hand_back = draining_;
    UpdatePhase();
  }
  if (hand_back) {
    FailLease(id, WorkFailure{.reason = "draining", .message = "the worker is shutting down"});
    return;
  }
  loader_->Want(id, wanted, now + time_limit);
}

// --- sampling -------------------------------------------------------------------------------

void RolloutService::OnUsable(uint64_t id, ModelId model) {
  GroupWork work;
  bool wants_grammar = false;
  {
    MutexLock lock(mu_);
    const auto it = leases_.find(id);
    if (it == leases_.end() || it->second.stage != Stage::kWaitingForWeights) return;
    Lease& lease = it->second;
    lease.stage = Stage::kSampling;
    lease.model = model;
    --num_waiting_for_weights_;
    work = {.job_id = lease.proto.job_id(),
            .deadline = lease.deadline,
            .request = ToGroupRequest(id, model, lease.proto)};
    UpdatePhase();
    wants_grammar = lease.proto.sampling().has_grammar();
  }
  if (wants_grammar) work.request.grammar = loader_->GrammarOf(work.job_id);
  engine_loop_->AddGroup(std::move(work));
}

void RolloutService::OnSamples(std::vector<CompletedSample> samples) {
  MutexLock lock(mu_);
  for (CompletedSample& sample : samples) {
    const auto it = leases_.find(sample.group_id);
    if (it == leases_.end()) continue;
    Lease& lease = it->second;
    lease.samples[sample.index] = std::move(sample);
    --num_held_;
    if (--lease.num_open > 0) continue;
    Finish(&lease);
    leases_.erase(it);
  }
  metrics_.HeldSequences(num_held_);
  UpdatePhase();
  changed_.NotifyAll();
}

void RolloutService::OnGroupFailed(uint64_t id, const Status& status) {
  if (status.code() == StatusCode::kDeadlineExceeded) {
    FailLease(id, std::nullopt);
    return;
  }
  if (status.code() != StatusCode::kNotFound) {
    FailLease(id, ToFailure(status));
    return;
  }
  // The version went between the loader's answer and the start: load it again.
  WantedPolicy wanted;
  ModelId model = 0;
  absl::Time deadline;
  {
    MutexLock lock(mu_);
    const auto it = leases_.find(id);
    if (it == leases_.end()) return;
    Lease& lease = it->second;
    lease.stage = Stage::kWaitingForWeights;
    model = lease.model;
    ++num_waiting_for_weights_;
    wanted = {lease.proto.job_id(), lease.proto.policy_version(), lease.proto.exact_version()};
    deadline = lease.deadline;
    UpdatePhase();
  }
  loader_->ModelDropped(wanted.job_id, model);
  loader_->Want(id, wanted, deadline);
}

void RolloutService::FailLease(uint64_t id, std::optional<WorkFailure> failure) {
  engine_loop_->Abort(id);
  MutexLock lock(mu_);
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  Lease& lease = it->second;
  if (lease.stage == Stage::kWaitingForWeights) --num_waiting_for_weights_;
  num_held_ -= lease.num_open;
  lease.failure = std::move(failure);
  const bool answer = lease.failure || lease.num_open < lease.samples.size();
  if (answer) {
    Finish(&lease);
  } else {
    metrics_.LeaseDropped();
    logger_.Warning(fmt::format("a lease passed its deadline lease={} job={} iteration={}",
                                lease.proto.lease_id(), lease.proto.job_id(),
                                lease.proto.iteration()));
  }
  leases_.erase(it);
  metrics_.HeldSequences(num_held_);
  UpdatePhase();
  changed_.NotifyAll();
}

void RolloutService::Finish(Lease* lease) {
  lease->finished = clock_.Now();
  submitter_->Add(std::move(*lease));
}

void RolloutService::WakeUp() {
  MutexLock lock(mu_);
  changed_.NotifyAll();
}

void RolloutService::DropLeasesOf(const std::string& worker_id) {
  DropLeasesIf([&](const LeasedSamples& lease) { return lease.worker_id == worker_id; });
}

void RolloutService::DropJobs(const std::vector<std::string>& job_ids) {
  DropLeasesIf([&](const LeasedSamples& lease) {
    return std::find(job_ids.begin(), job_ids.end(), lease.proto.job_id()) != job_ids.end();
  });
  for (const std::string& job_id : job_ids) {
    loader_->DropJob(job_id);
    engine_loop_->DropJob(job_id);
  }
}

void RolloutService::DropLeasesIf(const std::function<bool(const LeasedSamples&)>& drop) {
  std::vector<uint64_t> dropped;
  {
    MutexLock lock(mu_);
    for (auto it = leases_.begin(); it != leases_.end();) {
      const Lease& lease = it->second;
      if (!drop(lease)) {
        ++it;
        continue;
      }
      dropped.push_back(it->first);
      num_held_ -= lease.num_open;
      if (lease.stage == Stage::kWaitingForWeights) --num_waiting_for_weights_;
      metrics_.LeaseDropped();
      it = leases_.erase(it);
    }
    for (size_t i = submitter_->DropIf(drop); i > 0; --i) metrics_.LeaseDropped();
    metrics_.HeldSequences(num_held_);
    UpdatePhase();
    changed_.NotifyAll();
  }
  for (const uint64_t id : dropped) {
    loader_->Forget(id);
    engine_loop_->Abort(id);
  }
}

void RolloutService::UpdatePhase() {
  engine_loop_->SetWaitingForWeights(num_waiting_for_weights_ > 0);
  const bool sampling = leases_.size() > num_waiting_for_weights_;
  const char* phase = sampling                       ? "sampling"
                      : num_waiting_for_weights_ > 0 ? "fetching weights"
                                                     : "idle";
  if (phase == phase_) return;
  phase_ = phase;
  fleet_.SetPhase(phase_, leases_.empty() ? "" : leases_.begin()->second.proto.job_id());
}

// --- leaving --------------------------------------------------------------------------------

void RolloutService::Drain(absl::Duration patience) {
  const absl::Time until = clock_.Now() + patience;
  {
    MutexLock lock(mu_);
    draining_ = true;
    changed_.NotifyAll();
  }
  // With time left, what runs here may go on where there is more room.
  if (patience > absl::ZeroDuration()) fleet_.SetLeaving();
  if (poll_thread_.joinable()) poll_thread_.join();
  std::vector<uint64_t> unfinished;
  {
    MutexLock lock(mu_);
    while (!leases_.empty() && clock_.Now() < until) changed_.WaitFor(mu_, absl::Milliseconds(100));
    for (const auto& [id, lease] : leases_) unfinished.push_back(id);
  }
  for (const uint64_t id : unfinished) {
    loader_->Forget(id);
    FailLease(id, WorkFailure{.reason = "draining", .message = "the worker is shutting down"});
  }
  submitter_->Finish(clock_.Now() + kFarewell);
}

}  // namespace rollcall
