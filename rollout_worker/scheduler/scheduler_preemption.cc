// Whose blocks go to others, and whether they are kept in host memory.
#include "rollout_worker/scheduler/scheduler.h"

namespace rollcall {

bool Scheduler::IsSwapCheaper(const Sequence& sequence) const {
  // Out and in again; what the host holds already does not travel twice.
  const int64_t num_blocks = 2 * int64_t{cache_.BlocksFor(sequence.num_computed)} -
                             sequence.host.num_tokens / cache_.block_size();
  const auto bytes = static_cast<double>(num_blocks * swap_->block_bytes());
  return bytes * costs_.swap_seconds_per_byte <
         sequence.num_computed * costs_.recompute_seconds_per_token;
}

bool Scheduler::SwapOut(Sequence* sequence) {
  if (swap_ == nullptr || options_.preemption == Preemption::kRecompute) return false;
  // A leader's siblings are not there yet; its prompt is cheap to find again in the prefix cache.
  if (sequence->num_computed == 0) return false;
  if (options_.preemption == Preemption::kAuto && !IsSwapCheaper(*sequence)) return false;
  // Slots are written again: nothing that was copied before is sure to hold.
  if (sequence->kv_budget > 0) sequence->host.Clear();
  const int32_t num_slots = sequence->NumSlots(sequence->num_computed);
  sequence->num_swapped = sequence->num_computed;
  if (swap_->SwapOut(sequence->blocks, num_slots, &sequence->host)) return true;
  // Running sequences keep their host copies only to save work: the first in rank needs it least.
  for (Sequence* other : running_) {
    if (other == sequence || other->transfer != nullptr || other->host.num_tokens == 0) continue;
    other->host.Clear();
    if (swap_->SwapOut(sequence->blocks, num_slots, &sequence->host)) return true;
  }
  return false;
}

void Scheduler::TakeBlocks(Sequence* victim) {
  victim->transfer.reset();
  if (SwapOut(victim)) {
    ++plan_.num_swapped_out;
  } else {
    victim->host.Clear();
    ++plan_.num_recomputed;
  }
  victim->blocks.Clear();
  ++victim->epoch;
  // Computed again, it begins with its whole prompt.
  if (victim->host.num_tokens == 0) victim->is_compact = false;
  victim->num_computed = 0;
  expected_share_ = kFirstShare;
}

void Scheduler::PreemptLast() {
  Sequence* victim = running_.back();
  TakeBlocks(victim);
  running_.pop_back();
  InsertWaiting(victim);
}

Sequence* Scheduler::LastResting() const {
  Sequence* last = nullptr;
  for (Sequence* sequence : resting_) {
    if (sequence->blocks.empty()) continue;
    if (last == nullptr || RanksBefore(last, sequence)) last = sequence;
  }
  return last;
}

bool Scheduler::PreemptFor(const Sequence* sequence) {
  Sequence* resting = LastResting();
  const bool is_last = running_.back() == sequence;
  if (resting != nullptr && (is_last || RanksBefore(running_.back(), resting))) {
    TakeBlocks(resting);
    return true;
  }
  PreemptLast();
  return !is_last;
}

void Scheduler::PreemptForRank() {
  const Sequence* first = FirstWaiting();
  if (first == nullptr) return;
  while (true) {
    Sequence* resting = LastResting();
    const bool yields = resting != nullptr && Outranks(first, resting);
    if (!yields && (running_.empty() || !Outranks(first, running_.back()))) return;
    if (FitsWithoutPreemption(*first)) return;
    if (yields) {
      TakeBlocks(resting);
    } else {
      PreemptLast();
    }
  }
}

}  // namespace rollcall
