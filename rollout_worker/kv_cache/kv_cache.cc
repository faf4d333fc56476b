#include "rollout_worker/kv_cache/kv_cache.h"

#include <algorithm>

#include "services/base/status/status.h"

namespace rollcall {

KvCache::KvCache(int32_t num_blocks, int32_t block_size)
    : block_size_(block_size), pool_(num_blocks), index_(num_blocks, block_size) {}

bool KvCache::IsIdle(BlockId block) const {
  if (!pool_.is_free(block)) return false;
  return !index_.Contains(block) || pool_.age(block) >= static_cast<uint64_t>(pool_.num_free()) / 2;
}

BlockId KvCache::FindRun() {
  // A bounded look around; when memory is that short, runs are a luxury.
  constexpr int32_t kTries = 64;
  const int32_t num_runs = pool_.num_blocks() / kRunBlocks;
  for (int32_t i = 0; i < std::min(kTries, num_runs); ++i) {
    const BlockId first = (run_cursor_++ % num_runs) * kRunBlocks;
    BlockId block = first;
    while (block < first + kRunBlocks && IsIdle(block)) ++block;
    if (block == first + kRunBlocks) return first;
  }
  return kNoBlock;
}

BlockId KvCache::TakeBlock(BlockId previous) {
  BlockId wanted = previous == kNoBlock ? kNoBlock : previous + 1;
  if (wanted == pool_.num_blocks() || (wanted != kNoBlock && !IsIdle(wanted))) wanted = kNoBlock;
  if (wanted == kNoBlock) wanted = FindRun();
  if (wanted == kNoBlock || !pool_.AllocateBlock(wanted)) wanted = pool_.Allocate();
  if (wanted != kNoBlock) index_.Erase(wanted);
  return wanted;
}

int32_t KvCache::MatchPrefix(ModelId model, std::span<const int32_t> tokens, BlockTable* table) {
  ROLLCALL_CHECK(table->empty(), "only an empty table can take a cached prefix");
  table->pool_ = &pool_;
  table->last_node_ = index_.Root(model);
  table->num_indexed_ = 0;
  const int32_t num_full = (static_cast<int32_t>(tokens.size()) - 1) / block_size_;
  for (int32_t i = 0; i < num_full; ++i) {
    const auto entry = index_.Find(
        table->last_node_, tokens.subspan(static_cast<size_t>(i) * block_size_, block_size_));
    if (!entry) break;
    pool_.Acquire(entry->block);
    table->blocks_.push_back(entry->block);
    table->last_node_ = entry->node;
    ++table->num_indexed_;
  }
  return table->num_indexed_ * block_size_;
}

int32_t KvCache::CountPrefix(ModelId model, std::span<const int32_t> tokens) const {
  std::optional<NodeId> node = index_.FindRoot(model);
  if (!node) return 0;
  const int32_t num_full = (static_cast<int32_t>(tokens.size()) - 1) / block_size_;
  int32_t found = 0;
  for (; found < num_full; ++found) {
    const auto entry =
        index_.Find(*node, tokens.subspan(static_cast<size_t>(found) * block_size_, block_size_));
    if (!entry) break;
    node = entry->node;
  }
  return found;
}

int32_t KvCache::NumMissing(int32_t num_tokens, const BlockTable& table) const {
  return std::max(0, BlocksFor(num_tokens) - table.size());
}

bool KvCache::Grow(int32_t num_tokens, BlockTable* table) {
  const int32_t missing = NumMissing(num_tokens, *table);
  if (missing == 0) return true;
  if (missing > pool_.num_free()) return false;
  table->pool_ = &pool_;
  for (int32_t i = 0; i < missing; ++i) {
    table->blocks_.push_back(TakeBlock(table->empty() ? kNoBlock : table->blocks_.back()));
  }
  return true;
}

void KvCache::Shrink(int32_t num_tokens, BlockTable* table) {
  ROLLCALL_CHECK(!table->is_indexed_, "a chain of cached blocks is not cut");
  while (table->size() > BlocksFor(num_tokens)) {
    pool_.Release(table->blocks_.back());
    table->blocks_.pop_back();
  }
}

void KvCache::MarkComputed(ModelId model, std::span<const int32_t> tokens, int32_t num_computed,
                           BlockTable* table) {
  const int32_t num_full = num_computed / block_size_;
  if (!table->is_indexed_ || table->num_indexed_ >= num_full) return;
  if (table->num_indexed_ == 0) table->last_node_ = index_.Root(model);
  for (int32_t i = table->num_indexed_; i < num_full; ++i) {
    table->last_node_ =
        index_.Insert(model, table->last_node_, table->blocks_[i],
                      tokens.subspan(static_cast<size_t>(i) * block_size_, block_size_));
  }
  table->num_indexed_ = num_full;
}

KvCache::ForkResult KvCache::Fork(const BlockTable& parent, int32_t num_tokens, BlockTable* child) {
  ROLLCALL_CHECK(child->empty(), "only an empty table can be a fork");
  const int32_t num_full = num_tokens / block_size_;
  const bool partial = num_tokens % block_size_ != 0;
  // Only whole blocks of the parent's chain are shared, so the child may go on from there.
  ROLLCALL_CHECK(parent.num_indexed_ == num_full || !parent.is_indexed_,
                 "fork a table whose tokens are all computed");
  if (partial && pool_.num_free() == 0) return {};
  child->pool_ = &pool_;
  child->last_node_ = parent.last_node_;
  child->num_indexed_ = parent.num_indexed_;
  child->is_indexed_ = parent.is_indexed_;
  for (int32_t i = 0; i < num_full; ++i) {
    pool_.Acquire(parent.blocks_[i]);
    child->blocks_.push_back(parent.blocks_[i]);
  }
  ForkResult result{.ok = true, .copy = std::nullopt};
  if (partial) {
    child->blocks_.push_back(TakeBlock(kNoBlock));
    result.copy = BlockCopy{.from = parent.blocks_[num_full], .to = child->blocks_.back()};
  }
  return result;
}

void KvCache::DropModel(ModelId model) {
  for (const BlockId block : index_.EraseModel(model)) pool_.ReuseFirst(block);
}

}  // namespace rollcall
