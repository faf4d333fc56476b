#include "reward_server/scheduler/score_scheduler.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "reward_server/scoring/content_key.h"

namespace rollcall {
namespace {

// Longest sleep of the timer while something waits: deadlines and retries are this late at most.
constexpr absl::Duration kTimerPeriod = absl::Milliseconds(20);
constexpr absl::Duration kTimerIdle = absl::Seconds(1);
constexpr size_t kMaxBackends = 256;

}  // namespace

// One score under way. `waiters` is guarded by the scheduler's mutex; the rest belongs to whoever
// holds the flight: a queue, a thread, or the retries.
struct ScoreScheduler::Flight {
  Hash128 key{};
  std::shared_ptr<const BoundScorer> scorer;
  std::shared_ptr<const ScoreInput> input;
  ScoreBudget budget;
  Backend* backend = nullptr;
  int num_attempts = 0;
  std::vector<Done> waiters;
};

struct ScoreScheduler::Backend {
  Lane* lane = nullptr;
  int limit = 1;
  int num_running = 0;
  size_t num_flights = 0;  // queued, running or delayed
  std::deque<FlightPtr> queue;
  std::optional<CircuitBreaker> breaker;
};

ScoreScheduler::ScoreScheduler(const ScoreSchedulerOptions& options, const Clock& clock,
                               RewardMetrics& metrics)
    : options_(options),
      clock_(clock),
      metrics_(metrics),
      cache_(options.cache_bytes),
      jitter_(options.jitter_seed) {
  const auto capacity = [](int num_threads) { return static_cast<size_t>(num_threads); };
  local_.num_threads = options.local_threads;
  remote_.num_threads = options.remote_threads;
  // The lanes never start more than they have threads.
  local_threads_ = MakeThreadPool(options.local_threads, capacity(options.local_threads));
  remote_threads_ = MakeThreadPool(options.remote_threads, capacity(options.remote_threads));
  timer_ = std::thread([this] { RunTimer(); });
}

ScoreScheduler::~ScoreScheduler() {
  std::vector<FlightPtr> abandoned;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    for (auto& [address, backend] : backends_) {
      abandoned.insert(abandoned.end(), backend->queue.begin(), backend->queue.end());
      backend->queue.clear();
    }
    for (auto& [time, flight] : delayed_) abandoned.push_back(flight);
    delayed_.clear();
    timer_wakes_.NotifyAll();
  }
  for (const FlightPtr& flight : abandoned) {
    Finish(flight, ScoreResult::InfrastructureFailure("shutting_down",
                                                      "the reward server is shutting down"));
  }
  timer_.join();
  // The pools go only when no thread can hand them work any more.
  MutexLock lock(mu_);
  while (num_active_ > 0) became_idle_.WaitFor(mu_, kTimerIdle);
}

void ScoreScheduler::Submit(std::shared_ptr<const BoundScorer> scorer,
                            std::shared_ptr<const ScoreInput> input, const ScoreBudget& budget,
                            Done done) {
  const Hash128 key = ContentKey(scorer->identity(), scorer->scorer().reads(), *input);
  std::optional<ScoreResult> now_known;
  std::vector<FlightPtr> launched;
  {
    MutexLock lock(mu_);
    now_known = cache_.Get(key);
    const auto under_way = flights_.find(key);
    if (now_known.has_value()) {
      metrics_.CacheHit();
    } else if (under_way != flights_.end()) {
      metrics_.Deduplicated();
      under_way->second->waiters.push_back(std::move(done));
      return;
    } else if (stopping_) {
      now_known =
          ScoreResult::InfrastructureFailure("shutting_down", "the reward server is shutting down");
    } else {
      metrics_.CacheMiss();
      Backend* backend = GetBackend(scorer->scorer());
      if (backend->queue.size() >= options_.max_queued) {
        metrics_.Shed();
        now_known = ScoreResult::InfrastructureFailure("overloaded",
                                                       std::to_string(backend->queue.size()) +
                                                           " scores wait already, the limit is " +
                                                           std::to_string(options_.max_queued));
      } else {
        auto flight = std::make_shared<Flight>();
        flight->key = key;
        flight->scorer = std::move(scorer);
        flight->input = std::move(input);
        flight->budget = budget;
        flight->backend = backend;
        flight->waiters.push_back(done);
        ++backend->num_flights;
        backend->queue.push_back(flight);
        flights_.emplace(key, std::move(flight));
        if (flights_.size() == 1) timer_wakes_.NotifyOne();
        launched = Dispatch();
      }
    }
  }
  if (now_known.has_value()) {
    if (!now_known->ok()) metrics_.ScoreFailed(now_known->failure());
    done(*now_known);
    return;
  }
  Launch(launched);
}

ScoreScheduler::Backend* ScoreScheduler::GetBackend(const Scorer& scorer) {
  const std::string address = scorer.address();
  std::unique_ptr<Backend>& backend = backends_[address];
  if (backend == nullptr) {
    backend = std::make_unique<Backend>();
    backend->lane = address.empty() ? &local_ : &remote_;
    if (!address.empty()) backend->breaker.emplace(options_.breaker);
    backend->lane->backends.push_back(backend.get());
    PruneBackends();
  }
  // The jobs that share an address may ask for different limits: the last one counts.
  Backend* const found = backends_[address].get();
  found->limit = address.empty() ? options_.local_threads : scorer.concurrency();
  return found;
}

void ScoreScheduler::PruneBackends() {
  if (backends_.size() <= kMaxBackends) return;
  std::erase_if(backends_, [&](const auto& entry) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    Backend* backend = entry.second.get();
    // The newest one has no flight yet.
    if (backend->num_flights > 0 || backend == backend->lane->backends.back()) return false;
    std::erase(backend->lane->backends, backend);
    return true;
  });
}

ScoreScheduler::FlightPtr ScoreScheduler::PopFor(Lane* lane) {
  for (size_t i = 0; i < lane->backends.size(); ++i) {
    lane->next_backend = (lane->next_backend + 1) % lane->backends.size();
    Backend* backend = lane->backends[lane->next_backend];
    if (backend->queue.empty() || backend->num_running >= backend->limit) continue;
    FlightPtr flight = std::move(backend->queue.front());
    backend->queue.pop_front();
    return flight;
  }
  return nullptr;
}

std::vector<ScoreScheduler::FlightPtr> ScoreScheduler::Dispatch() {
  std::vector<FlightPtr> launched;
  for (Lane* lane : {&local_, &remote_}) {
    while (!stopping_ && lane->num_running < lane->num_threads) {
      FlightPtr flight = PopFor(lane);
      if (flight == nullptr) break;
      ++num_active_;
      ++lane->num_running;
      ++flight->backend->num_running;
      launched.push_back(std::move(flight));
    }
  }
  UpdateGauges();
  return launched;
}

void ScoreScheduler::UpdateGauges() {
  size_t depth = delayed_.size();
  std::array<int, 3> breakers{};
  for (const auto& [address, backend] : backends_) {
    depth += backend->queue.size();
    if (backend->breaker.has_value()) ++breakers[static_cast<size_t>(backend->breaker->state())];
  }
  metrics_.QueueDepth(depth);
  metrics_.Breakers(breakers);
  metrics_.CacheSize(cache_.size_bytes());
}

void ScoreScheduler::Launch(const std::vector<FlightPtr>& flights) {
  for (const FlightPtr& flight : flights) {
    const bool is_local = flight->scorer->scorer().address().empty();
    Executor& threads = is_local ? *local_threads_ : *remote_threads_;
    // A thread gives its place back a moment before it takes the next task, so the pool's queue
    // holds one task a thread at most.
    const Status scheduled = threads.Schedule([this, flight] { Run(flight); });
    ROLLCALL_CHECK(scheduled.ok(), "the scorer threads have no room");
  }
}

ScoreResult ScoreScheduler::RunScorer(const FlightPtr& flight) {
  const absl::Time start = clock_.Now();
  if (start >= flight->budget.deadline) {
    return ScoreResult::InfrastructureFailure("timeout", "the deadline passed in the queue");
  }
  CircuitBreaker::Permit permit;
  {
    MutexLock lock(mu_);
    std::optional<CircuitBreaker>& breaker = flight->backend->breaker;
    if (breaker.has_value()) {
      permit = breaker->Acquire(start);
      if (!permit.allowed) {
        return ScoreResult::InfrastructureFailure(
            kBreakerOpen, flight->scorer->scorer().address() +
                              " failed repeatedly and is not called for a while");
      }
    }
  }
  ++flight->num_attempts;
  const ScoreResult result = flight->scorer->Score(
      *flight->input, std::min(flight->budget.deadline, start + flight->budget.attempt_timeout));
  const absl::Time end = clock_.Now();
  metrics_.Scored(flight->scorer->type_name(), absl::ToDoubleSeconds(end - start));
  MutexLock lock(mu_);
  std::optional<CircuitBreaker>& breaker = flight->backend->breaker;
  if (breaker.has_value()) {
    breaker->Record(permit,
                    result.is_infrastructure_failure() ? CircuitBreaker::Outcome::kFailed
                                                       : CircuitBreaker::Outcome::kAnswered,
                    end);
  }
  return result;
}

void ScoreScheduler::Run(const FlightPtr& flight) {
  const ScoreResult result = RunScorer(flight);
  std::vector<FlightPtr> launched;
  bool is_retried = false;
  {
    MutexLock lock(mu_);
    --flight->backend->num_running;
    --flight->backend->lane->num_running;
    const std::optional<absl::Time> next = NextAttempt(options_.retry,
                                                       {.number = flight->num_attempts,
                                                        .max_retries = flight->budget.max_retries,
                                                        .now = clock_.Now(),
                                                        .deadline = flight->budget.deadline,
                                                        .jitter = jitter_.Uniform()},
                                                       result);
    if (next.has_value() && !stopping_) {
      is_retried = true;
      metrics_.Retried();
      delayed_.emplace(*next, flight);
    }
    launched = Dispatch();
  }
  Launch(launched);
  if (!is_retried) Finish(flight, result);
  MutexLock lock(mu_);
  if (--num_active_ == 0) became_idle_.NotifyAll();
}

void ScoreScheduler::Finish(const FlightPtr& flight, const ScoreResult& result) {
  std::vector<Done> waiters;
  {
    MutexLock lock(mu_);
    if (!result.is_infrastructure_failure()) cache_.Put(flight->key, result);
    flights_.erase(flight->key);
    --flight->backend->num_flights;
    waiters = std::move(flight->waiters);
    UpdateGauges();
  }
  if (!result.ok()) metrics_.ScoreFailed(result.failure());
  for (const Done& done : waiters) done(result);
}

std::vector<ScoreScheduler::Finished> ScoreScheduler::TakeExpired(absl::Time now) {
  std::vector<Finished> expired;
  for (auto& [address, backend] : backends_) {
    std::erase_if(backend->queue, [&](const FlightPtr& flight) {
      if (now < flight->budget.deadline) return false;
      expired.push_back({flight, ScoreResult::InfrastructureFailure(
                                     "timeout", "the deadline passed in the queue")});
      return true;
    });
  }
  return expired;
}

void ScoreScheduler::RunTimer() {
  while (true) {
    std::vector<FlightPtr> launched;
    std::vector<Finished> expired;
    {
      MutexLock lock(mu_);
      if (stopping_) return;
      const bool is_idle = flights_.empty();
      timer_wakes_.WaitFor(mu_, is_idle ? kTimerIdle : kTimerPeriod);
      if (stopping_) return;
      const absl::Time now = clock_.Now();
      while (!delayed_.empty() && delayed_.begin()->first <= now) {
        const FlightPtr flight = delayed_.begin()->second;
        delayed_.erase(delayed_.begin());
        flight->backend->queue.push_back(flight);
      }
      expired = TakeExpired(now);
      launched = Dispatch();
    }
    Launch(launched);
    for (const Finished& finished : expired) Finish(finished.flight, finished.result);
  }
}

}  // namespace rollcall
