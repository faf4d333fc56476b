// The inference engine of one job: continuous batching over a paged KV cache, several versions of
// the policy side by side.
//
//   AddModel(v) -> AddGroup(prompt, n samples, v) -> Step()* -> tokens, CompletedSample * n
//                                 '-> SwitchGroups(v + 1, mode)
//
// A group's prompt is computed once; its samples fork from it. Every sequence keeps the version
// that it started with until SwitchGroups says otherwise. A sampled token depends on the weights,
// the tokens before it, the sampling law and (stream key, number of the token) alone: not on the
// batch, the KV memory, preemptions or the worker. After a switch with UpdateMode::kKeep it also
// depends on where the switch was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "rollout_worker/engine/metrics.h"
#include "rollout_worker/engine/migration.h"
#include "rollout_worker/engine/types.h"
#include "rollout_worker/runner/model_runner.h"
#include "rollout_worker/sampler/sampler.h"
#include "rollout_worker/scheduler/scheduler.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/base/status/status.h"
#include "services/model/config/model_config.h"

namespace rollcall {

class RunnerBackend;

struct EngineOptions {
  int32_t block_size = 16;               // tokens in one KV block
  int64_t kv_cache_bytes = 256LL << 20;  // upper bound of KV memory
  int32_t compute_threads = 1;           // of one step, the caller's included
  SchedulerOptions scheduler;
  // Host memory for preempted sequences; 0: they are always computed again.
  int64_t swap_bytes = 256LL << 20;
  // Threads that bring swapped sequences back beside the computing; 0: the engine's own thread.
  int32_t num_swap_threads = 1;
  // Versions that stay loaded although no sequence uses them.
  int32_t num_kept_models = 2;
  // Where the engine computes; it runs models of this backend. Null: the CPU.
  std::shared_ptr<const RunnerBackend> backend;
};

// KV blocks that an engine of this model gets. kInvalidArgument when not even one block fits.
StatusOr<int32_t> NumKvBlocks(const EngineOptions& options, const ModelConfig& config);

// Used from one thread.
class Engine {
 public:
  // `clock` and the metrics' registry must outlive the engine.
  Engine(const EngineOptions& options, const ModelConfig& config, int32_t num_blocks,
         std::unique_ptr<ModelRunner> runner, EngineMetrics metrics, const Clock& clock);
  // Call once before the first group when swap_bytes > 0 (Create does).
  Status AllocateSwap();
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

  // Moves every group of an older model that is not pinned to model `id` between two steps. With
  // kDrain nothing happens: groups that come later use it. kNotFound: the model was dropped.
  Status SwitchGroups(ModelId id, UpdateMode mode);

  // While paused, steps compute nothing and has_work() is false; groups may come and go.
  void Pause() { is_paused_ = true; }
  void Resume() { is_paused_ = false; }
  bool is_paused() const { return is_paused_; }

  // kNotFound: the model was dropped, load it again. kOutOfRange: the prompt leaves no room for one
  // token. kInvalidArgument: the prompt is empty or has an id outside the vocabulary; a setting is
  // out of range. kResourceExhausted: the longest completion would not fit into the whole KV cache.
  Status AddGroup(GroupRequest request);

  // Drops the group and what it holds; nothing is reported for it any more. False when there is no
  // such group (it finished).
  bool Abort(uint64_t group_id);

  // From the next step on the group ranks by this number. False when there is no such group.
  bool SetPriority(uint64_t group_id, int32_t priority);
  // Tokens of this tenant cost 1 / weight in fair scheduling; weight > 0.
  void SetTenantWeight(const std::string& tenant, double weight);

  // Migration; migration.h has the protocol. Between steps. Source side: kNotFound when the
  // sequence ended; kFailedPrecondition when it is not in the state that the call needs.
  std::vector<MovableSequence> ListMovable();
  StatusOr<int64_t> VersionOf(uint64_t group_id, int32_t index);
  StatusOr<SettledBlocks> Settled(uint64_t group_id, int32_t index);
  Status ReadBlocks(uint64_t group_id, int32_t index, int32_t first, int32_t count,
                    std::vector<std::byte>* out);
  // kAborted: the blocks that were read in this epoch are not those of the sequence any more.
  StatusOr<SequenceState> Detach(uint64_t group_id, int32_t index, uint64_t epoch);
  Status Attach(uint64_t group_id, int32_t index);
  Status Release(uint64_t group_id, int32_t index);
  // Tokens that the destination sampled, and how it ended; *result is what a step would report.
  Status Deliver(uint64_t group_id, int32_t index, const SampledTokens& tokens,
                 std::optional<CompletionEnd> end, StepResult* result);
  Status Reclaim(uint64_t group_id, int32_t index);
  // Destination side. kResourceExhausted: no blocks above the watermark, or too many reservations.
  StatusOr<ReservationId> Reserve(int32_t num_tokens);
  Status GrowReservation(ReservationId id, int32_t num_tokens);
  Status WriteReserved(ReservationId id, int32_t first_block, std::span<const std::byte> bytes);
  void DropReservation(ReservationId id);
  // The sequence runs here from now on, as a group of its own. Ends the reservation in any case.
  Status Adopt(ReservationId id, SequenceState state);

  // Computes one batch; the result holds what it sampled and who ended. O(tokens of the batch).
  StepResult Step();

  bool has_work() const { return !is_paused_ && scheduler_->has_work(); }
  size_t num_running() const { return scheduler_->num_running(); }
  size_t num_waiting() const { return scheduler_->num_waiting(); }
  // The load in one number; scheduler/freeness.h.
  double FreenessNow() const;
  // Version of the newest model; 0 before the first.
  int64_t newest_version() const {
    return models_.empty() ? 0 : models_.rbegin()->second.policy_version;
  }
  size_t num_models() const { return models_.size(); }
  const KvCache& cache() const { return cache_; }
  int64_t block_bytes() const { return runner_->block_bytes(); }
  // Null when there is no swap space.
  const SwapSpace* swap() const { return swap_.get(); }

 private:
  struct Group;
  struct LiveSequence;
  struct Beams;
  struct LoadedModel {
    int64_t policy_version = 0;
    std::shared_ptr<const RunnableModel> model;
    int32_t num_groups = 0;
  };

  Status CheckGroup(const GroupRequest& request) const;
  Group& InsertGroup(GroupRequest request, LoadedModel* model);
  // Puts a new sequence where its started completion is.
  void Restore(LiveSequence* sequence);
  StatusOr<LiveSequence*> FindSequence(uint64_t group_id, int32_t index);
  StatusOr<LiveSequence*> FindMovable(uint64_t group_id, int32_t index);
  bool HasRoomFor(int32_t num_tokens, const BlockTable& blocks) const;
  void MeasureCosts(double seconds, const StepPlan& plan);
  void RunBatch(ModelId model, const StepPlan& plan);
  void AddToBatch(const PlannedChunk& chunk);
  // The chunk is computed; `logits` is the row of its last token where that is wanted.
  void FinishChunk(const PlannedChunk& chunk, std::span<const float> logits);
  void FailChunk(const PlannedChunk& chunk, const Status& status);
  // Prompt tokens of the chunk, which is in the batch, whose log-probabilities are still missing.
  void WantPromptScores(LiveSequence* sequence, const PlannedChunk& chunk);
  void TakePromptScores(size_t first, std::span<const float> logits);
  // The law of the sequence's next token over the row.
  Status SetRow(const LiveSequence& sequence, std::span<const float> logits);
  // What was drawn from the row, and what the request wants to know of it.
  Status Record(const SampledToken& token, LiveSequence& sequence);
  void SampleFirst(Group& group, std::span<const float> logits);
  void SampleNext(LiveSequence& sequence, std::span<const float> logits);
  // A sequence with a KV budget starts, and its prompt is there.
  void BeginForgetting(LiveSequence* sequence);
  Status CompactPrompt(LiveSequence* sequence);
  // Starts a sibling beside the parent, whose tokens are computed.
  void Fork(LiveSequence& parent, LiveSequence* child);
  // Appends the token; true when the completion ends with it.
  bool Append(const SampledToken& token, LiveSequence& sequence);
  // Reports what was sampled since the last time.
  void Stream(LiveSequence& sequence);
  void Complete(LiveSequence& sequence, CompletionEnd end);
  void Fail(LiveSequence& sequence, const Status& status);
  void FailGroup(Group& group, const Status& status);
  void Close(LiveSequence& sequence, CompletedSample sample);
  // The sample is over, `first` says when it came and how its prompt was found.
  void Report(Group& group, const LiveSequence& first, CompletedSample sample);
  // The row of a live beam is there.
  void Expand(LiveSequence& sequence, std::span<const float> logits);
  // At the end of a batch: a search of which beams were expanded goes on or waits for the others.
  void GoOn(Group& group);
  void AdvanceBeams(Group& group);
  void ForkBeam(LiveSequence& parent, LiveSequence* child);
  void CompleteBeams(Group& group);
  void CloseBeams(Group& group);
  void RemoveFinishedGroups();
  void ReleaseModel(ModelId id);
  void DropIdleModels();

  const EngineOptions options_;
  const ModelConfig config_;
  const Clock& clock_;
  EngineMetrics metrics_;
  // Destroyed last: tables of sequences give their blocks back to it.
  KvCache cache_;
  std::unique_ptr<ModelRunner> runner_;
  // The swap space outlives every sequence; its executor outlives it.
  std::unique_ptr<Executor> swap_executor_;
  std::unique_ptr<SwapSpace> swap_;
  std::unique_ptr<Scheduler> scheduler_;
  Sampler sampler_;
  std::vector<uint64_t> allowed_bits_;  // of the row
  std::map<ModelId, LoadedModel> models_;
  std::unordered_map<uint64_t, std::unique_ptr<Group>> groups_;
  static constexpr size_t kMaxReservations = 64;
  std::map<ReservationId, BlockTable> reservations_;
  ReservationId next_reservation_ = 1;
  uint64_t next_arrival_ = 0;
  bool is_paused_ = false;
  PreemptionCosts costs_;
  SwapStats last_swap_stats_;  // as the metrics know them

  // Of the step that runs.
  BatchLayout batch_;
  std::vector<PlannedChunk> batch_chunks_;
  struct ScoredToken {
    LiveSequence* sequence = nullptr;
    int32_t token = 0;  // whose log-probability is wanted
  };
  std::vector<ScoredToken> scored_;  // of the batch's scored rows
  std::vector<Group*> expanded_;     // searches that got rows from the batch
  StepResult result_;
  std::vector<uint64_t> finished_groups_;
  int32_t num_sampled_ = 0;
  int32_t num_prefilled_ = 0;
  absl::Time step_start_;
  absl::Time sampled_at_;  // when the logits of the batch were there
};

}  // namespace rollcall
