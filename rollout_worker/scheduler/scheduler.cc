#include "rollout_worker/scheduler/scheduler.h"

#include <algorithm>

#include "services/base/status/status.h"

namespace rollcall {
namespace {

bool ArrivedBefore(const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KvCache& cache)
    : options_(options),
      watermark_blocks_(static_cast<int32_t>(options.watermark * cache.num_blocks())),
      cache_(cache) {
  ROLLCALL_CHECK(options.max_sequences > 0 && options.max_batched_tokens > 0,
                 "the scheduler needs room for one sequence and one token");
  running_.reserve(static_cast<size_t>(options.max_sequences));
}

void Scheduler::Add(Sequence* sequence) {
  ROLLCALL_CHECK(!sequence->tokens.empty(), "a sequence has at least one token");
  ROLLCALL_CHECK(cache_.BlocksFor(sequence->num_known()) <= cache_.num_blocks(),
                 "the sequence is larger than the pool");
  const bool inserted = waiting_.emplace(sequence->arrival, sequence).second;
  ROLLCALL_CHECK(inserted, "two sequences have the same arrival number");
}

void Scheduler::Remove(Sequence* sequence) {
  const auto it = std::lower_bound(running_.begin(), running_.end(), sequence, ArrivedBefore);
  if (it != running_.end() && *it == sequence) {
    running_.erase(it);
  } else {
    const size_t erased = waiting_.erase(sequence->arrival);
    ROLLCALL_CHECK(erased == 1, "the sequence is not scheduled here");
  }
  sequence->blocks.Clear();
  sequence->num_computed = 0;
}

void Scheduler::InsertRunning(Sequence* sequence) {
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, ArrivedBefore),
                  sequence);
}

int32_t Scheduler::SlotsUsed() const {
  int32_t slots = 0;
  for (const Sequence* sequence : running_) slots += 1 + sequence->num_forks;
  return slots;
}

void Scheduler::PreemptLast() {
  Sequence* victim = running_.back();
  running_.pop_back();
  victim->blocks.Clear();
  victim->num_computed = 0;
  waiting_.emplace(victim->arrival, victim);
  ++plan_.num_preempted;
}

const StepPlan& Scheduler::Plan() {
  plan_.chunks.clear();
  plan_.num_tokens = 0;
  plan_.num_preempted = 0;
  plan_.num_prefix_hit_tokens = 0;
  PlanRunning();
  if (plan_.num_preempted == 0) AdmitWaiting();
  return plan_;
}

void Scheduler::PlanRunning() {
  // Victims are taken from the end of the list, which is not planned yet.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    const int32_t budget = options_.max_batched_tokens - plan_.num_tokens;
    const int32_t num_new = std::min(sequence->num_known() - sequence->num_computed, budget);
    if (num_new == 0) return;
    while (!cache_.Grow(sequence->num_computed + num_new, &sequence->blocks)) {
      const bool itself = running_.back() == sequence;
      PreemptLast();
      if (itself) return;
    }
    plan_.chunks.push_back({sequence, num_new});
    plan_.num_tokens += num_new;
  }
}

void Scheduler::AdmitWaiting() {
  // Head of line: nobody overtakes because he is smaller.
  while (!waiting_.empty() && plan_.num_tokens < options_.max_batched_tokens) {
    Sequence* sequence = waiting_.begin()->second;
    if (!Admit(sequence)) return;
    waiting_.erase(waiting_.begin());
    InsertRunning(sequence);
  }
}

bool Scheduler::Admit(Sequence* sequence) {
  const bool alone = running_.empty();
  if (!alone && SlotsUsed() + 1 + sequence->num_forks > options_.max_sequences) return false;
  const int32_t num_hit = cache_.MatchPrefix(sequence->model, sequence->tokens, &sequence->blocks);
  // Every sibling takes a block of its own as soon as the prompt is computed.
  const int32_t wanted = cache_.NumMissing(sequence->num_known(), sequence->blocks) +
                         sequence->num_forks + watermark_blocks_;
  const int32_t num_new =
      std::min(sequence->num_known() - num_hit, options_.max_batched_tokens - plan_.num_tokens);
  if ((!alone && wanted > cache_.num_free()) ||
      !cache_.Grow(num_hit + num_new, &sequence->blocks)) {
    ROLLCALL_CHECK(!alone, "a sequence does not fit into the empty pool");
    sequence->blocks.Clear();
    return false;
  }
  sequence->num_computed = num_hit;
  plan_.num_prefix_hit_tokens += num_hit;
  plan_.chunks.push_back({sequence, num_new});
  plan_.num_tokens += num_new;
  return true;
}

void Scheduler::Advance(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  sequence.num_computed += chunk.num_new;
  cache_.MarkComputed(sequence.model, sequence.tokens, sequence.num_computed, &sequence.blocks);
}

std::optional<BlockCopy> Scheduler::Fork(const Sequence& parent, int32_t num_tokens,
                                         Sequence* child) {
  ROLLCALL_CHECK(parent.num_computed == num_tokens && child->num_known() >= num_tokens,
                 "a fork starts where its parent is");
  child->num_computed = 0;
  if (SlotsUsed() < options_.max_sequences) {
    const KvCache::ForkResult fork = cache_.Fork(parent.blocks, num_tokens, &child->blocks);
    if (fork.ok) {
      child->num_computed = num_tokens;
      InsertRunning(child);
      return fork.copy;
    }
  }
  Add(child);
  return std::nullopt;
}

}  // namespace rollcall
