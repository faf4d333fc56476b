// Who computes what in the next step: continuous batching with chunked prefill.
//
// Running sequences come first, in order of arrival, then waiting ones are admitted while the token
// budget, the sequence limit and free blocks allow. When a running sequence needs a block and none
// is free, the running sequence that arrived last gives all its blocks back and waits again
// (preemption by recomputation); a step that preempts admits nobody. The oldest sequence is never
// preempted for another one, so every sequence that fits into the pool alone finishes.
// Source: vLLM v1, vllm/v1/core/sched/scheduler.py.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "rollout_worker/kv_cache/kv_cache.h"
#include "rollout_worker/scheduler/sequence.h"

namespace rollcall {

struct SchedulerOptions {
  int32_t max_sequences = 128;        // running at once, siblings to come included
  int32_t max_batched_tokens = 2048;  // computed in one step
  // Share of the blocks that stays free when a sequence is admitted beside others.
  double watermark = 0.01;
};

struct PlannedChunk {
  Sequence* sequence = nullptr;
  // Tokens num_computed .. num_computed + num_new - 1 are computed.
  int32_t num_new = 0;
  bool wants_logits() const { return sequence->num_computed + num_new == sequence->num_known(); }
};

struct StepPlan {
  std::vector<PlannedChunk> chunks;
  int32_t num_tokens = 0;
  int32_t num_preempted = 0;
  int32_t num_prefix_hit_tokens = 0;
};

// Borrows sequences from Add (or Fork) until Remove. Not thread-safe. The order of calls is
//   (Add | Remove)* -> Plan -> compute -> Advance* -> (Add | Remove | Fork | append tokens)* -> ...
class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, KvCache& cache);

  // Queues a sequence; it waits until a plan admits it.
  void Add(Sequence* sequence);

  // Takes the sequence out, wherever it is, and gives its blocks back.
  void Remove(Sequence* sequence);

  // Decides the next step and takes the blocks that it needs. Valid until the next call.
  const StepPlan& Plan();

  // This planned chunk has been computed.
  void Advance(const PlannedChunk& chunk);

  // Starts `child`, whose tokens begin with the first num_tokens computed tokens of the running
  // `parent`, beside it; it runs at once when there is room, else it waits and recomputes. Returns
  // the copy that must be made before the next step.
  std::optional<BlockCopy> Fork(const Sequence& parent, int32_t num_tokens, Sequence* child);

  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  size_t num_running() const { return running_.size(); }
  size_t num_waiting() const { return waiting_.size(); }
  // In order of arrival.
  std::span<Sequence* const> running() const { return running_; }

 private:
  void PlanRunning();
  void AdmitWaiting();
  bool Admit(Sequence* sequence);
  void PreemptLast();
  void InsertRunning(Sequence* sequence);
  int32_t SlotsUsed() const;

  const SchedulerOptions options_;
  const int32_t watermark_blocks_;
  KvCache& cache_;
  std::vector<Sequence*> running_;         // sorted by arrival
  std::map<uint64_t, Sequence*> waiting_;  // by arrival
  StepPlan plan_;
};

}  // namespace rollcall
