// The inference engine of one job: continuous batching over a paged KV cache, several versions of
// the policy side by side.
//
//   AddModel(v) -> AddGroup(prompt, n samples, v) -> Step()* -> tokens, CompletedSample * n
//
// A group's prompt is computed once; its samples fork from it. Every sequence keeps the version
// that it started with. A sampled token depends on the weights, the tokens before it, the sampling
// law and (stream key, number of the token) alone: not on the batch, the KV memory, preemptions or
// the worker.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "rollout_worker/engine/metrics.h"
#include "rollout_worker/engine/types.h"
#include "rollout_worker/runner/model_runner.h"
#include "rollout_worker/sampler/sampler.h"
#include "rollout_worker/scheduler/scheduler.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/model/config/model_config.h"

namespace rollcall {

struct EngineOptions {
  int32_t block_size = 16;               // tokens in one KV block
  int64_t kv_cache_bytes = 256LL << 20;  // upper bound of KV memory
  SchedulerOptions scheduler;
  // Versions that stay loaded although no sequence uses them.
  int32_t num_kept_models = 2;
};

// KV blocks that an engine of this model gets. kInvalidArgument when not even one block fits.
StatusOr<int32_t> NumKvBlocks(const EngineOptions& options, const ModelConfig& config);

// Used from one thread.
class Engine {
 public:
  // `clock` and the metrics' registry must outlive the engine.
  Engine(const EngineOptions& options, const ModelConfig& config, int32_t num_blocks,
         std::unique_ptr<ModelRunner> runner, EngineMetrics metrics, const Clock& clock);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // An engine with the shared decoder as its runner.
  static StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                  const ModelConfig& config, EngineMetrics metrics,
                                                  const Clock& clock);

  // Makes a version usable; ids are never used twice and grow. The newest num_kept_models stay,
  // older ones are dropped as soon as no group uses them.
  void AddModel(ModelId id, int64_t policy_version, std::shared_ptr<const RunnableModel> model);

  // kNotFound: the model was dropped, load it again. kOutOfRange: the prompt leaves no room for one
  // token. kInvalidArgument: the prompt is empty or has an id outside the vocabulary; a setting is
  // out of range. kResourceExhausted: the longest completion would not fit into the whole KV cache.
  Status AddGroup(GroupRequest request);

  // Drops the group and what it holds; nothing is reported for it any more. False when there is no
  // such group (it finished).
  bool Abort(uint64_t group_id);

  // Computes one batch; the result holds what it sampled and who ended. O(tokens of the batch).
  StepResult Step();

  bool has_work() const { return scheduler_.has_work(); }
  size_t num_running() const { return scheduler_.num_running(); }
  size_t num_waiting() const { return scheduler_.num_waiting(); }
  size_t num_models() const { return models_.size(); }
  const KvCache& cache() const { return cache_; }

 private:
  struct Group;
  struct LiveSequence;
  struct LoadedModel {
    int64_t policy_version = 0;
    std::shared_ptr<const RunnableModel> model;
    int32_t num_groups = 0;
  };

  void RunBatch(ModelId model, const StepPlan& plan);
  void SampleFirst(Group& group, std::span<const float> logits);
  void SampleNext(LiveSequence& sequence, std::span<const float> logits);
  // Appends the token; true when the completion ends with it.
  bool Append(const SampledToken& token, LiveSequence& sequence);
  // Reports what was sampled since the last time.
  void Stream(LiveSequence& sequence);
  void Complete(LiveSequence& sequence, CompletionEnd end);
  void Fail(LiveSequence& sequence, const Status& status);
  void FailGroup(Group& group, const Status& status);
  void Close(LiveSequence& sequence, CompletedSample sample);
  void RemoveFinishedGroups();
  void ReleaseModel(ModelId id);
  void DropIdleModels();

  const EngineOptions options_;
  const ModelConfig config_;
  const Clock& clock_;
  EngineMetrics metrics_;
  // Destroyed last: tables of sequences give their blocks back to it.
  KvCache cache_;
  Scheduler scheduler_;
  std::unique_ptr<ModelRunner> runner_;
  Sampler sampler_;
  std::map<ModelId, LoadedModel> models_;
  std::unordered_map<uint64_t, std::unique_ptr<Group>> groups_;
  uint64_t next_arrival_ = 0;

  // Of the step that runs.
  BatchLayout batch_;
  std::vector<PlannedChunk> batch_chunks_;
  StepResult result_;
  std::vector<uint64_t> finished_groups_;
  int32_t num_sampled_ = 0;
  int32_t num_prefilled_ = 0;
};

}  // namespace rollcall
