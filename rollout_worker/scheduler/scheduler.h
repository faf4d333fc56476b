// Who computes what in the next step: continuous batching with chunked prefill.
//
// Running sequences come first, in order of rank, then waiting ones are admitted while the token
// budget, the sequence limit and free blocks allow. Rank is (priority, whether the account took
// more than its fair share, order of arrival).
//
// When a running sequence needs a block and none is free, the running sequence of the last rank
// gives its blocks back and waits again: its keys and values are moved to host memory (swap) or
// computed again (recompute), whichever costs less. A step that runs out of memory admits nobody.
// A waiting sequence of smaller priority number, or of an account that is not behind, takes the
// place of running ones that rank behind it for that reason; order of arrival alone preempts
// nobody. The first in rank is never preempted, so every sequence that fits into the pool alone
// finishes.
// Sources: vLLM v1, vllm/v1/core/sched/scheduler.py; SGLang managers/schedule_policy.py (admission
// by expected length); FastSwitch, arXiv 2411.18424 (swap-in beside running work).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "rollout_worker/kv_cache/kv_cache.h"
#include "rollout_worker/kv_cache/swap_space.h"
#include "rollout_worker/scheduler/fair_share.h"
#include "rollout_worker/scheduler/sequence.h"

namespace rollcall {

// What happens to the keys and values of a preempted sequence. kAuto compares the measured costs.
enum class Preemption { kAuto, kRecompute, kSwap };

// What must be free for a sequence to be admitted beside others: room for its known tokens, or for
// the tokens that it and the running ones are expected to need as well.
enum class Admission { kKnown, kExpected };

struct SchedulerOptions {
  int32_t max_sequences = 128;        // running at once, siblings to come included
  int32_t max_batched_tokens = 2048;  // computed in one step
  // Most tokens of one sequence in one step; 0: as many as the budget has.
  int32_t max_prefill_chunk = 0;
  // Share of the blocks that stays free when a sequence is admitted beside others.
  double watermark = 0.01;
  Preemption preemption = Preemption::kAuto;
  Admission admission = Admission::kKnown;
  FairShareOptions fair_share;
};

// Measured costs behind Preemption::kAuto.
struct PreemptionCosts {
  double recompute_seconds_per_token = 50e-6;
  double swap_seconds_per_byte = 0.25e-9;  // one way
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
  int32_t num_recomputed = 0;   // preempted sequences whose blocks were dropped
  int32_t num_swapped_out = 0;  // preempted sequences that went to host memory
  int32_t num_swapped_in = 0;
  int32_t num_prefix_hit_tokens = 0;
  int32_t num_preempted() const { return num_recomputed + num_swapped_out; }
};

// Borrows sequences from Add (or Fork) until Remove. Not thread-safe. The order of calls is
//   (Add | Remove)* -> Plan -> compute -> Advance* -> (Add | Remove | Fork | append tokens)* -> ...
class Scheduler {
 public:
  // `swap` may be null: preemption is by recomputation then.
  Scheduler(const SchedulerOptions& options, KvCache& cache, SwapSpace* swap = nullptr);

  // Account of fair scheduling.
  FairShare& fair_share() { return fair_share_; }

  // Queues a sequence; it waits until a plan admits it.
  void Add(Sequence* sequence);

  // Takes the sequence out, wherever it is, and gives its blocks back.
  void Remove(Sequence* sequence);

  // Takes a sequence out of the steps that keeps what is computed of it, and puts it back. Detached
  // sequences hold their blocks and a place; Remove works on them too.
  void Detach(Sequence* sequence);
  void Attach(Sequence* sequence);
  bool is_detached(const Sequence* sequence) const;

  // A running sequence whose known tokens are all computed has nothing to do until Wake, which
  // comes when there is a token more. Meanwhile it keeps its blocks and its place unless others
  // need them: what rests is preempted before what runs behind it in rank, and makes room where
  // nothing else runs. Waking one that does not rest does nothing. Remove works on it too.
  void Rest(Sequence* sequence);
  void Wake(Sequence* sequence);
  bool is_resting(const Sequence* sequence) const;

  // A sequence that comes with the blocks of its first num_computed tokens. It runs at once when
  // there is room, else it gives the blocks back and waits.
  void AddComputed(Sequence* sequence);

  // Drops what is computed of the sequence: it waits again and computes all under its model.
  void Restart(Sequence* sequence);

  void SetPriority(Sequence* sequence, int32_t priority);

  // Decides the next step and takes the blocks that it needs. Valid until the next call. An empty
  // plan while there is work means that everything waits for memory that only a call of Remove
  // gives back; it cannot happen while nothing but the scheduler holds blocks.
  const StepPlan& Plan();

  // This planned chunk has been computed.
  void Advance(const PlannedChunk& chunk);

  // Starts `child`, whose tokens begin with the first num_tokens computed tokens of the running
  // `parent`, beside it; it runs at once when there is room, else it waits and recomputes. Returns
  // the copy that must be made before the next step.
  std::optional<BlockCopy> Fork(const Sequence& parent, int32_t num_tokens, Sequence* child);

  // The same for a parent that forgets: nothing is shared. Empty when the child has to wait.
  std::vector<BlockCopy> ForkCopy(const Sequence& parent, Sequence* child);

  // The sequence's memory was compacted to its budget: the other blocks are given back.
  void Compact(Sequence* sequence);

  // Blocks that the first in line needs to start; 0: nobody waits.
  int32_t HeadDemandBlocks() const;

  void SetCosts(const PreemptionCosts& costs) { costs_ = costs; }

  bool has_work() const { return !running_.empty() || num_waiting_ > 0; }
  size_t num_running() const { return running_.size(); }
  size_t num_waiting() const { return num_waiting_; }
  // In order of rank.
  std::span<Sequence* const> running() const { return running_; }

 private:
  using WaitingKey = std::pair<int32_t, uint64_t>;  // priority, arrival
  static constexpr double kFirstShare = 0.7;

  bool RanksBefore(const Sequence* a, const Sequence* b) const;
  // Whether `a` comes first for another reason than that it arrived first.
  bool Outranks(const Sequence* a, const Sequence* b) const;
  void InsertRunning(Sequence* sequence);
  bool EraseRunning(Sequence* sequence);
  void InsertWaiting(Sequence* sequence);
  bool EraseWaiting(Sequence* sequence);
  Sequence* FirstWaiting() const;

  void FinishTransfers();
  void PreemptForRank();
  void PlanRunning();
  void PlanChunk(Sequence* sequence, int32_t num_new);
  int32_t ChunkOf(const Sequence& sequence) const;
  void AdmitWaiting();
  bool Admit(Sequence* sequence);
  bool FitsWithoutPreemption(const Sequence& sequence) const;
  // Blocks that the candidate and the running sequences are expected to take.
  int32_t ExpectedBlocks(const Sequence& candidate) const;
  // Room for a running sequence that found none; false when it had to go itself.
  bool PreemptFor(const Sequence* sequence);
  void PreemptLast();
  // Its blocks go to the host or are dropped.
  void TakeBlocks(Sequence* victim);
  // The last in rank of those that rest and hold blocks; null: none does.
  Sequence* LastResting() const;
  bool SwapOut(Sequence* sequence);
  bool IsSwapCheaper(const Sequence& sequence) const;
  int32_t SlotsUsed() const;

  const SchedulerOptions options_;
  const int32_t watermark_blocks_;
  KvCache& cache_;
  SwapSpace* const swap_;
  FairShare fair_share_;
  PreemptionCosts costs_;
  std::vector<Sequence*> running_;  // sorted by rank
  std::vector<Sequence*> detached_;
  std::vector<Sequence*> resting_;
  std::vector<std::map<WaitingKey, Sequence*>> waiting_;  // by account
  size_t num_waiting_ = 0;
  int64_t num_plans_ = 0;
  double expected_share_;  // of its remaining tokens that a sequence is expected to need
  StepPlan plan_;
};

}  // namespace rollcall
