// Sequences that begin with what another one has computed.
#include "rollout_worker/scheduler/scheduler.h"

namespace rollcall {

std::vector<BlockCopy> Scheduler::ForkCopy(const Sequence& parent, Sequence* child) {
  std::vector<BlockCopy> copies;
  const int32_t num_tokens = parent.num_computed;
  child->num_computed = 0;
  child->num_booked = num_tokens;
  child->is_compact = parent.is_compact;
  if (SlotsUsed() < options_.max_sequences &&
      cache_.Grow(parent.NumSlots(num_tokens), &child->blocks)) {
    child->blocks.StopIndexing();
    child->num_computed = num_tokens;
    for (int32_t i = 0; i < child->blocks.size(); ++i) {
      const auto place = static_cast<size_t>(i);
      copies.push_back({parent.blocks.blocks()[place], child->blocks.blocks()[place]});
    }
    fair_share_.Begin(child->account);
    InsertRunning(child);
    return copies;
  }
  child->is_compact = false;
  Add(child);
  return copies;
}

void Scheduler::Compact(Sequence* sequence) {
  sequence->is_compact = true;
  cache_.Shrink(sequence->NumSlots(sequence->num_computed), &sequence->blocks);
}

std::optional<BlockCopy> Scheduler::Fork(const Sequence& parent, int32_t num_tokens,
                                         Sequence* child) {
  ROLLCALL_CHECK(
      num_tokens > 0 && parent.num_computed >= num_tokens && child->num_known() >= num_tokens,
      "a fork starts where its parent is");
  child->num_computed = 0;
  child->num_booked = num_tokens;
  child->has_stale_blocks = parent.has_stale_blocks;
  if (SlotsUsed() < options_.max_sequences) {
    const KvCache::ForkResult fork = cache_.Fork(parent.blocks, num_tokens, &child->blocks);
    if (fork.ok) {
      child->num_computed = num_tokens;
      fair_share_.Begin(child->account);
      InsertRunning(child);
      return fork.copy;
    }
  }
  child->has_stale_blocks = false;
  Add(child);
  return std::nullopt;
}

}  // namespace rollcall
