#include "rollout_worker/scheduler/scheduler.h"

#include <algorithm>
#include <cmath>

#include "services/base/status/status.h"

namespace rollcall {
namespace {

// SGLang's constants, with kFirstShare: the share starts cautious and falls while nothing goes
// wrong; a preemption puts it back.
constexpr double kLastShare = 0.098;
constexpr double kShareSteps = 600;
constexpr int32_t kMostExpectedTokens = 4096;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KvCache& cache, SwapSpace* swap)
    : options_(options),
      watermark_blocks_(static_cast<int32_t>(options.watermark * cache.num_blocks())),
      cache_(cache),
      swap_(swap),
      fair_share_(options.fair_share),
      expected_share_(kFirstShare) {
  ROLLCALL_CHECK(options.max_sequences > 0 && options.max_batched_tokens > 0,
                 "the scheduler needs room for one sequence and one token");
  ROLLCALL_CHECK(options.max_prefill_chunk >= 0, "a chunk has at least one token");
  running_.reserve(static_cast<size_t>(options.max_sequences));
  fair_share_.Account("");  // of whoever names none
}

// --- order ----------------------------------------------------------------------------------

bool Scheduler::Outranks(const Sequence* a, const Sequence* b) const {
  if (a->priority != b->priority) return a->priority < b->priority;
  return !fair_share_.is_behind(a->account) && fair_share_.is_behind(b->account);
}

bool Scheduler::RanksBefore(const Sequence* a, const Sequence* b) const {
  if (Outranks(a, b)) return true;
  return !Outranks(b, a) && a->arrival < b->arrival;
}

void Scheduler::InsertRunning(Sequence* sequence) {
  const auto before = [this](const Sequence* a, const Sequence* b) { return RanksBefore(a, b); };
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, before), sequence);
}

bool Scheduler::EraseRunning(Sequence* sequence) {
  const auto it = std::find(running_.begin(), running_.end(), sequence);
  if (it == running_.end()) return false;
  running_.erase(it);
  return true;
}

void Scheduler::InsertWaiting(Sequence* sequence) {
  const auto account = static_cast<size_t>(sequence->account);
  if (account >= waiting_.size()) waiting_.resize(account + 1);
  const bool inserted =
      waiting_[account].emplace(WaitingKey(sequence->priority, sequence->arrival), sequence).second;
  ROLLCALL_CHECK(inserted, "two sequences have the same arrival number");
  ++num_waiting_;
}

bool Scheduler::EraseWaiting(Sequence* sequence) {
  const auto account = static_cast<size_t>(sequence->account);
  if (account >= waiting_.size() ||
      waiting_[account].erase(WaitingKey(sequence->priority, sequence->arrival)) == 0) {
    return false;
  }
  --num_waiting_;
  return true;
}

Sequence* Scheduler::FirstWaiting() const {
  Sequence* first = nullptr;
  for (const auto& queue : waiting_) {
    if (queue.empty()) continue;
    Sequence* head = queue.begin()->second;
    if (first == nullptr) {
      first = head;
      continue;
    }
    // Between accounts of one class the one that got least so far goes first.
    const bool by_share = options_.fair_share.is_enabled && !Outranks(head, first) &&
                          !Outranks(first, head) &&
                          fair_share_.counter(head->account) != fair_share_.counter(first->account);
    const bool is_before =
        by_share ? fair_share_.counter(head->account) < fair_share_.counter(first->account)
                 : RanksBefore(head, first);
    if (is_before) first = head;
  }
  return first;
}

// --- in and out -----------------------------------------------------------------------------

void Scheduler::Add(Sequence* sequence) {
  ROLLCALL_CHECK(!sequence->tokens.empty(), "a sequence has at least one token");
  ROLLCALL_CHECK(cache_.BlocksFor(sequence->NumSlotsWanted()) <= cache_.num_blocks(),
                 "the sequence is larger than the pool");
  fair_share_.Begin(sequence->account);
  InsertWaiting(sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  ROLLCALL_CHECK(EraseRunning(sequence) || EraseWaiting(sequence) ||
                     std::erase(detached_, sequence) == 1 || std::erase(resting_, sequence) == 1,
                 "the sequence is not scheduled here");
  fair_share_.End(sequence->account);
  sequence->transfer.reset();
  sequence->blocks.Clear();
  sequence->host.Clear();
  sequence->num_computed = 0;
}

void Scheduler::Detach(Sequence* sequence) {
  sequence->transfer.reset();
  ROLLCALL_CHECK(EraseRunning(sequence), "only a running sequence can be detached");
  detached_.push_back(sequence);
}

void Scheduler::Attach(Sequence* sequence) {
  ROLLCALL_CHECK(std::erase(detached_, sequence) == 1, "the sequence is not detached");
  InsertRunning(sequence);
}

bool Scheduler::is_detached(const Sequence* sequence) const {
  return std::find(detached_.begin(), detached_.end(), sequence) != detached_.end();
}

void Scheduler::Rest(Sequence* sequence) {
  ROLLCALL_CHECK(sequence->num_computed == sequence->num_known() && EraseRunning(sequence),
                 "only a running sequence that has nothing to compute rests");
  resting_.push_back(sequence);
}

void Scheduler::Wake(Sequence* sequence) {
  if (std::erase(resting_, sequence) == 0) return;
  if (sequence->num_computed > 0) {
    InsertRunning(sequence);
  } else {
    InsertWaiting(sequence);
  }
}

bool Scheduler::is_resting(const Sequence* sequence) const {
  return std::find(resting_.begin(), resting_.end(), sequence) != resting_.end();
}

void Scheduler::AddComputed(Sequence* sequence) {
  if (SlotsUsed() < options_.max_sequences) {
    fair_share_.Begin(sequence->account);
    sequence->num_booked = sequence->num_computed;
    InsertRunning(sequence);
    return;
  }
  sequence->blocks.Clear();
  sequence->num_computed = 0;
  Add(sequence);
}

void Scheduler::Restart(Sequence* sequence) {
  if (EraseRunning(sequence) || std::erase(detached_, sequence) == 1) InsertWaiting(sequence);
  sequence->transfer.reset();
  sequence->blocks.Clear();
  sequence->host.Clear();
  ++sequence->epoch;
  sequence->num_computed = 0;
  sequence->has_stale_blocks = false;
  sequence->is_compact = false;
}

void Scheduler::SetPriority(Sequence* sequence, int32_t priority) {
  if (EraseRunning(sequence)) {
    sequence->priority = priority;
    InsertRunning(sequence);
  } else if (EraseWaiting(sequence)) {
    sequence->priority = priority;
    InsertWaiting(sequence);
  } else {
    sequence->priority = priority;
  }
}

int32_t Scheduler::SlotsUsed() const {
  auto slots = static_cast<int32_t>(detached_.size());
  for (const Sequence* sequence : running_) slots += 1 + sequence->num_forks;
  for (const Sequence* sequence : resting_) slots += sequence->blocks.empty() ? 0 : 1;
  return slots;
}

// --- the step -------------------------------------------------------------------------------

const StepPlan& Scheduler::Plan() {
  plan_.chunks.clear();
  plan_.num_tokens = 0;
  plan_.num_recomputed = 0;
  plan_.num_swapped_out = 0;
  plan_.num_swapped_in = 0;
  plan_.num_prefix_hit_tokens = 0;
  ++num_plans_;
  FinishTransfers();
  if (options_.fair_share.is_enabled && num_plans_ % options_.fair_share.interval_steps == 0 &&
      fair_share_.Reevaluate()) {
    std::sort(running_.begin(), running_.end(),
              [this](const Sequence* a, const Sequence* b) { return RanksBefore(a, b); });
  }
  expected_share_ =
      std::max(kLastShare, expected_share_ - (kFirstShare - kLastShare) / kShareSteps);
  PreemptForRank();
  const int32_t num_preempted = plan_.num_preempted();
  PlanRunning();
  if (plan_.num_preempted() == num_preempted) AdmitWaiting();
  // Nothing else can run: the first transfer is worth waiting for.
  for (Sequence* sequence : running_) {
    if (!plan_.chunks.empty()) break;
    if (sequence->transfer == nullptr) continue;
    sequence->transfer.reset();
    PlanRunning();
  }
  return plan_;
}

void Scheduler::FinishTransfers() {
  for (Sequence* sequence : running_) {
    if (sequence->transfer != nullptr && sequence->transfer->done()) sequence->transfer.reset();
  }
}

int32_t Scheduler::ChunkOf(const Sequence& sequence) const {
  int32_t num_new = std::min(sequence.num_known() - sequence.num_computed,
                             options_.max_batched_tokens - plan_.num_tokens);
  // A sequence that forgets does so token by token after its prompt.
  if (sequence.kv_budget > 0) {
    num_new = std::min(num_new, sequence.num_computed < sequence.num_prompt
                                    ? sequence.num_prompt - sequence.num_computed
                                    : 1);
  }
  if (options_.max_prefill_chunk > 0) num_new = std::min(num_new, options_.max_prefill_chunk);
  return num_new;
}

void Scheduler::PlanChunk(Sequence* sequence, int32_t num_new) {
  plan_.chunks.push_back({sequence, num_new});
  plan_.num_tokens += num_new;
}

void Scheduler::PlanRunning() {
  // Victims are taken from the end of the list, which is not planned yet.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->transfer != nullptr) continue;
    const int32_t num_new = ChunkOf(*sequence);
    if (num_new == 0) continue;  // waits for its siblings, or the budget is spent
    while (!cache_.Grow(sequence->NumSlots(sequence->num_computed + num_new), &sequence->blocks)) {
      if (!PreemptFor(sequence)) return;
    }
    PlanChunk(sequence, num_new);
  }
}

void Scheduler::AdmitWaiting() {
  // Head of line: nobody overtakes because he is smaller.
  while (plan_.num_tokens < options_.max_batched_tokens) {
    Sequence* sequence = FirstWaiting();
    if (sequence == nullptr || !Admit(sequence)) return;
    EraseWaiting(sequence);
    InsertRunning(sequence);
  }
}

int32_t Scheduler::ExpectedBlocks(const Sequence& candidate) const {
  if (options_.admission == Admission::kKnown) return 0;
  double tokens = 0;
  const auto expect = [&](const Sequence& sequence) {
    const int32_t left = std::max(0, sequence.max_tokens - sequence.num_known());
    tokens += std::min(left, kMostExpectedTokens) * expected_share_ * (1 + sequence.num_forks);
  };
  expect(candidate);
  for (const Sequence* sequence : running_) expect(*sequence);
  return cache_.BlocksFor(static_cast<int32_t>(std::min(tokens, 1e9)));
}

bool Scheduler::FitsWithoutPreemption(const Sequence& sequence) const {
  if (SlotsUsed() + 1 + sequence.num_forks > options_.max_sequences) return false;
  const int32_t num_hit = sequence.skips_prefix_cache || sequence.has_stale_blocks
                              ? 0
                              : cache_.CountPrefix(sequence.model, sequence.tokens);
  return cache_.BlocksFor(sequence.NumSlotsWanted()) - num_hit + sequence.num_forks +
             watermark_blocks_ + ExpectedBlocks(sequence) <=
         cache_.num_free();
}

int32_t Scheduler::HeadDemandBlocks() const {
  const Sequence* first = FirstWaiting();
  if (first == nullptr) return 0;
  return cache_.BlocksFor(first->NumSlotsWanted()) + first->num_forks;
}

bool Scheduler::Admit(Sequence* sequence) {
  const bool alone = running_.empty();
  if (!alone && SlotsUsed() + 1 + sequence->num_forks > options_.max_sequences) return false;
  while (alone && SlotsUsed() >= options_.max_sequences && LastResting() != nullptr) {
    TakeBlocks(LastResting());
  }
  int32_t num_hit = 0;
  if (!sequence->skips_prefix_cache && !sequence->has_stale_blocks) {
    num_hit = cache_.MatchPrefix(sequence->model, sequence->tokens, &sequence->blocks);
  }
  const int32_t num_held =
      sequence->host.num_tokens > 0 ? std::max(num_hit, sequence->num_swapped) : num_hit;
  // Every sibling takes a block of its own as soon as the prompt is computed.
  const int32_t wanted = cache_.NumMissing(sequence->NumSlotsWanted(), sequence->blocks) +
                         sequence->num_forks + watermark_blocks_ + ExpectedBlocks(*sequence);
  sequence->num_computed = num_held;
  const int32_t num_new = ChunkOf(*sequence);
  while ((!alone && wanted > cache_.num_free()) ||
         !cache_.Grow(sequence->NumSlots(num_held + num_new), &sequence->blocks)) {
    Sequence* resting = alone ? LastResting() : nullptr;
    if (resting != nullptr) {
      TakeBlocks(resting);
      continue;
    }
    ROLLCALL_CHECK(!alone || cache_.num_used() > sequence->blocks.size(),
                   "a sequence does not fit into the empty pool");
    sequence->blocks.Clear();
    sequence->num_computed = 0;
    return false;
  }
  if (sequence->has_stale_blocks) {
    if (num_held > 0) {
      sequence->blocks.StopIndexing();
    } else {
      sequence->has_stale_blocks = false;  // all is computed anew
    }
  }
  if (sequence->kv_budget > 0) sequence->blocks.StopIndexing();
  plan_.num_prefix_hit_tokens += num_hit;
  if (num_held > num_hit) {
    sequence->transfer =
        swap_->SwapIn(sequence->host, num_hit / cache_.block_size(), sequence->blocks);
    ++plan_.num_swapped_in;
    if (!sequence->transfer->done()) return true;
    sequence->transfer.reset();
  }
  if (num_new > 0) PlanChunk(sequence, num_new);
  return true;
}

void Scheduler::Advance(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  sequence.num_computed += chunk.num_new;
  // What is computed again after a preemption is nobody's gain.
  if (sequence.num_computed > sequence.num_booked) {
    const int32_t num_prompt =
        std::max(0, std::min(sequence.num_computed, sequence.num_prompt) - sequence.num_booked);
    fair_share_.Book(sequence.account, num_prompt,
                     sequence.num_computed - sequence.num_booked - num_prompt);
    sequence.num_booked = sequence.num_computed;
  }
  cache_.MarkComputed(sequence.model, sequence.tokens, sequence.num_computed, &sequence.blocks);
}

}  // namespace rollcall
