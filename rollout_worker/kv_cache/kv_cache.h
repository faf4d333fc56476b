// KV memory of one engine: the pool, the prefix index and the rules that join them.
//
//   MatchPrefix -> Grow -> (compute) -> MarkComputed -> Grow -> ... -> table.Clear()
//                    '-> Fork: a sibling shares the full blocks and copies the partial one
//
// A block that more than one table holds is full and is never written again. Block ids only: the
// memory itself belongs to the runner.
//
// Neighbours: a table grows into the block after its last one where that is free, and a new run
// begins where kRunBlocks are free in a row, so that moving a sequence is a few large copies. A
// free block that others may still want (it holds a cached prefix and was freed lately) is left
// alone. Source: FastSwitch, arXiv 2411.18424, dynamic block groups; the runs over an LRU list are
// ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rollout_worker/kv_cache/block_pool.h"
#include "rollout_worker/kv_cache/block_table.h"
#include "rollout_worker/kv_cache/prefix_index.h"

namespace rollcall {

// Bytes of block `from` to be copied to `to` before the next step.
struct BlockCopy {
  BlockId from = kNoBlock;
  BlockId to = kNoBlock;
};

// Not thread-safe.
class KvCache {
 public:
  static constexpr int32_t kRunBlocks = 16;

  KvCache(int32_t num_blocks, int32_t block_size);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // Fills an empty table with the longest cached prefix of `tokens` under `model`. Returns how many
  // tokens that is: whole blocks, and never the last token, whose logits are still to be computed.
  int32_t MatchPrefix(ModelId model, std::span<const int32_t> tokens, BlockTable* table);

  // Blocks that MatchPrefix would find.
  int32_t CountPrefix(ModelId model, std::span<const int32_t> tokens) const;

  // Makes the table cover num_tokens tokens. False when blocks are missing: nothing changed then.
  bool Grow(int32_t num_tokens, BlockTable* table);
  // Gives the blocks behind the first num_tokens tokens back. The table must not be indexed.
  void Shrink(int32_t num_tokens, BlockTable* table);
  // Blocks that Grow would take from the pool.
  int32_t NumMissing(int32_t num_tokens, const BlockTable& table) const;

  // The first num_computed of these tokens are in the table's blocks now: blocks that became full
  // can be found by MatchPrefix.
  void MarkComputed(ModelId model, std::span<const int32_t> tokens, int32_t num_computed,
                    BlockTable* table);

  struct ForkResult {
    bool ok = false;                // false: no block for the partial part; `child` is unchanged
    std::optional<BlockCopy> copy;  // present when num_tokens ends inside a block
  };
  // Gives the empty `child` the parent's first num_tokens tokens.
  ForkResult Fork(const BlockTable& parent, int32_t num_tokens, BlockTable* child);

  // Forgets every cached block of the model and reuses the free ones first. No table of the model
  // may be in use.
  void DropModel(ModelId model);

  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + block_size_ - 1) / block_size_;
  }
  int32_t block_size() const { return block_size_; }
  int32_t num_blocks() const { return pool_.num_blocks(); }
  int32_t num_free() const { return pool_.num_free(); }
  int32_t num_used() const { return pool_.num_blocks() - pool_.num_free(); }
  // For tests: reference counts and content of every block.
  const BlockPool& pool() const { return pool_; }
  const PrefixIndex& index() const { return index_; }

 private:
  // Takes a block whose old content nobody can find any more, after `previous` if that is possible.
  BlockId TakeBlock(BlockId previous);
  // Whether the block may be taken out of turn.
  bool IsIdle(BlockId block) const;
  // A block that begins a free run, or kNoBlock.
  BlockId FindRun();

  const int32_t block_size_;
  BlockPool pool_;
  PrefixIndex index_;
  int32_t run_cursor_ = 0;  // where the last run was looked for
};

}  // namespace rollcall
