// One queue in front of all scorers.
//
//   Submit -> cache hit ----------------------------------------> done
//          -> the same content is under way: joins it -----------'
//          -> back-end's queue -> a thread runs the scorer -------'
//               full: shed         '-> waits for its retry -> back-end's queue
//
// A back-end is where a scorer runs: this process, or one remote address. Each has a queue, a limit
// of concurrent calls and, when remote, a circuit breaker. Local scorers and remote calls have
// threads of their own, so that a slow remote never holds up a verifier.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "reward_server/metrics.h"
#include "reward_server/scheduler/circuit_breaker.h"
#include "reward_server/scheduler/retry.h"
#include "reward_server/scheduler/score_cache.h"
#include "reward_server/scoring/bound_scorer.h"
#include "reward_server/scoring/types.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/base/runtime/random.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

struct ScoreSchedulerOptions {
  int local_threads = 2;
  int remote_threads = 64;
  // Scores waiting for one back-end; more are shed.
  size_t max_queued = 8192;
  uint64_t cache_bytes = 64 << 20;
  CircuitBreakerOptions breaker;
  RetryOptions retry;
  uint64_t jitter_seed = 0;
};

struct ScoreBudget {
  absl::Duration attempt_timeout = absl::Seconds(10);
  int max_retries = 3;
  // Of the whole: queue, attempts and waits between them.
  absl::Time deadline;
};

// Thread-safe.
class ScoreScheduler {
 public:
  ScoreScheduler(const ScoreSchedulerOptions& options, const Clock& clock, RewardMetrics& metrics);
  // What still waits fails with "shutting_down"; running scorers end first. Only `done` callbacks
  // may call Submit() at this time.
  ~ScoreScheduler();
  ScoreScheduler(const ScoreScheduler&) = delete;
  ScoreScheduler& operator=(const ScoreScheduler&) = delete;

  using Done = std::function<void(const ScoreResult&)>;
  // `done` runs exactly once, here or on a thread of the scheduler; it may submit again but must
  // not block. A score that joins another one of the same content shares its budget.
  void Submit(std::shared_ptr<const BoundScorer> scorer, std::shared_ptr<const ScoreInput> input,
              const ScoreBudget& budget, Done done) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Flight;
  struct Backend;
  // Threads that run scorers: one group for local ones, one for remote calls.
  struct Lane {
    int num_threads = 0;
    int num_running = 0;
    std::vector<Backend*> backends;
    size_t next_backend = 0;  // round robin
  };
  using FlightPtr = std::shared_ptr<Flight>;
  struct Finished {
    FlightPtr flight;
    ScoreResult result;
  };

  Backend* GetBackend(const Scorer& scorer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes from the queues what may run now.
  std::vector<FlightPtr> Dispatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  FlightPtr PopFor(Lane* lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Removes what is past its deadline from the queues.
  std::vector<Finished> TakeExpired(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Forgets back-ends that nobody used when there are too many.
  void PruneBackends() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UpdateGauges() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Launch(const std::vector<FlightPtr>& flights) ABSL_LOCKS_EXCLUDED(mu_);
  void Run(const FlightPtr& flight) ABSL_LOCKS_EXCLUDED(mu_);
  ScoreResult RunScorer(const FlightPtr& flight) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(const FlightPtr& flight, const ScoreResult& result) ABSL_LOCKS_EXCLUDED(mu_);
  void RunTimer() ABSL_LOCKS_EXCLUDED(mu_);

  const ScoreSchedulerOptions options_;
  const Clock& clock_;
  RewardMetrics& metrics_;

  Mutex mu_;
  CondVar timer_wakes_;
  CondVar became_idle_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // Flights that were dispatched and whose Run() has not returned.
  int num_active_ ABSL_GUARDED_BY(mu_) = 0;
  ScoreCache cache_ ABSL_GUARDED_BY(mu_);
  CounterRandom jitter_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<Hash128, FlightPtr, Hash128Hasher> flights_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::unique_ptr<Backend>> backends_ ABSL_GUARDED_BY(mu_);  // by address
  Lane local_ ABSL_GUARDED_BY(mu_);
  Lane remote_ ABSL_GUARDED_BY(mu_);
  std::multimap<absl::Time, FlightPtr> delayed_ ABSL_GUARDED_BY(mu_);

  // Last: their threads use the members above.
  std::unique_ptr<Executor> local_threads_;
  std::unique_ptr<Executor> remote_threads_;
  std::thread timer_;
};

}  // namespace rollcall
