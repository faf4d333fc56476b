// The way of requests into the engine and of what it samples back to them, for all front ends.
//
//   Start --admitted--> weights acquired -> groups run -> OnTokens*, OnSample... -> over
//     '-- refused: too much waits            '-- Abort, deadline, failure --------> over
//
// Threads: Start and Abort come from anywhere, events from the engine's thread; listeners are
// called on one delivery thread, so that neither the engine nor the network waits for a text to be
// made. Grammars are compiled on a thread of their own, before the weights are acquired.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/serving/metrics.h"
#include "rollout_worker/serving/served_model.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// What a front end hears of its call. Called on the delivery thread, one at a time.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  // `group` is the place in GenerationCall::groups.
  virtual void OnTokens(int32_t group, const StreamedTokens& tokens) = 0;
  virtual void OnSample(int32_t group, const CompletedSample& sample) = 0;
  // The call ended before its time; nothing follows. kDeadlineExceeded, kUnavailable (shutdown),
  // the codes of Engine::AddGroup and of ServedPolicy::Acquire.
  virtual void OnFailed(const Status& status) = 0;
};

struct GenerationCall {
  std::shared_ptr<const ServedModel> model;
  // group_id and model are filled in.
  std::vector<GroupRequest> groups;
  absl::Time arrival;  // before anything was done for it
  absl::Time deadline = absl::InfiniteFuture();
  // Compiles the grammar of all groups; empty: they have none, or theirs already. Called once, on a
  // thread for such work, or not at all. Its error fails the call.
  std::function<StatusOr<std::shared_ptr<const TokenGrammar>>()> make_grammar;
  std::shared_ptr<GenerationListener> listener;
};

struct GeneratorOptions {
  // Samples that are admitted and not finished, running ones included; what comes beyond is
  // refused.
  int32_t max_open_samples = 1024;
};

// Groups of a generator have ids from here on; other users of the same engine loop stay below.
inline constexpr uint64_t kFirstGeneratorGroup = uint64_t{1} << 62;

// Thread-safe.
class Generator {
 public:
  // Metrics and clock must outlive it.
  Generator(const GeneratorOptions& options, ServingMetrics& metrics, const Clock& clock);
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // What the engine loop shall call; the generator must outlive the loop's thread.
  EngineEvents events();
  // Call once, before the first Start. The loop is borrowed until Stop.
  void SetLoop(EngineLoop* loop) ABSL_LOCKS_EXCLUDED(mu_);

  // The number of the call, for Abort. kResourceExhausted: too much is waiting, try again later;
  // kUnavailable: the process is shutting down; kInvalidArgument: it alone is more than
  // max_open_samples.
  StatusOr<uint64_t> Start(GenerationCall call) ABSL_LOCKS_EXCLUDED(mu_);
  // Nobody waits for the call any more: its listener hears nothing and is let go. Nothing happens
  // when the call is over.
  void Abort(uint64_t call) ABSL_LOCKS_EXCLUDED(mu_);

  // Its calls fail with kUnavailable: the engine of the job is gone.
  void DropJob(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);

  // Refuses new calls and waits up to `patience` for those that run; then they fail with
  // kUnavailable. Idempotent.
  void Drain(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the delivery; call after the engine loop stopped.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  size_t num_open_samples() const ABSL_LOCKS_EXCLUDED(mu_);
  int32_t max_open_samples() const { return options_.max_open_samples; }

 private:
  struct Group {
    uint64_t call = 0;
    int32_t index = 0;
    size_t num_prompt_tokens = 0;
    int32_t max_tokens = 0;
    std::vector<absl::Time> last_token;  // by sample; infinite past: none yet
  };
  struct Call {
    std::shared_ptr<const ServedModel> model;
    std::shared_ptr<GenerationListener> listener;
    std::vector<GroupRequest> groups;  // kept: they may have to start again
    std::vector<uint64_t> group_ids;
    ModelId model_id = 0;
    absl::Time arrival;
    absl::Time deadline;
    std::function<StatusOr<std::shared_ptr<const TokenGrammar>>()> make_grammar;
    size_t num_open = 0;
    int num_acquired = 0;  // times that weights were found
  };
  using Delivery = std::function<void()>;

  void MakeGrammar(uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);
  void Acquire(uint64_t id, const std::shared_ptr<ServedPolicy>& policy, absl::Time deadline);
  void OnAcquired(uint64_t id, const StatusOr<ModelId>& model) ABSL_LOCKS_EXCLUDED(mu_);
  void OnTokens(std::vector<StreamedTokens> tokens) ABSL_LOCKS_EXCLUDED(mu_);
  void OnSamples(std::vector<CompletedSample> samples) ABSL_LOCKS_EXCLUDED(mu_);
  void OnGroupFailed(uint64_t group, const Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  void FailCall(uint64_t id, const Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  void Observe(const Call& call, const Group& group, const CompletedSample& sample);
  // Takes the call out; its groups that may still run.
  std::vector<uint64_t> Remove(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AbortGroups(const std::vector<uint64_t>& groups) ABSL_LOCKS_EXCLUDED(mu_);
  void Deliver(Delivery delivery) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DeliveryLoop() ABSL_LOCKS_EXCLUDED(mu_);

  const GeneratorOptions options_;
  ServingMetrics& metrics_;
  const Clock& clock_;

  mutable Mutex mu_;
  CondVar delivery_posted_;
  CondVar call_over_;
  EngineLoop* loop_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unordered_map<uint64_t, Call> calls_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<uint64_t, Group> groups_ ABSL_GUARDED_BY(mu_);
  // Bounded by what was admitted: the tokens of open samples and an end for each call.
  std::vector<Delivery> deliveries_ ABSL_GUARDED_BY(mu_);
  size_t num_open_samples_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t next_call_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t next_group_ ABSL_GUARDED_BY(mu_) = kFirstGeneratorGroup;
  bool is_draining_ ABSL_GUARDED_BY(mu_) = false;
  bool is_stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<Executor> grammar_thread_ ABSL_GUARDED_BY(mu_);  // null: stopped

  std::jthread thread_;  // last: starts when everything above exists
};

}  // namespace rollcall
