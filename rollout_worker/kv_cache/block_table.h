// The KV blocks of one sequence, in order of position. Owns one reference to each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "rollout_worker/kv_cache/block_pool.h"
#include "rollout_worker/kv_cache/prefix_index.h"

namespace rollcall {

// Move-only. Filled by KvCache; the pool must outlive it. Not thread-safe.
class BlockTable {
 public:
  BlockTable() = default;
  ~BlockTable() { Clear(); }
  BlockTable(BlockTable&& other) noexcept { *this = std::move(other); }
  BlockTable& operator=(BlockTable&& other) noexcept;
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;

  // Gives every block back, the last one first: the end of a sequence is the part that is least
  // likely to be wanted again.
  void Clear();

  // From now on the content of its blocks is not what its tokens and model would give (weights
  // changed under a running sequence): no block that it fills later can be found by others.
  void StopIndexing() { is_indexed_ = false; }
  bool is_indexed() const { return is_indexed_; }

  std::span<const BlockId> blocks() const { return blocks_; }
  int32_t size() const { return static_cast<int32_t>(blocks_.size()); }
  bool empty() const { return blocks_.empty(); }

 private:
  friend class KvCache;
  friend class SwapSpace;
  BlockPool* pool_ = nullptr;
  std::vector<BlockId> blocks_;
  // Chain of full blocks in the prefix index: node of the last one and how many there are.
  NodeId last_node_ = 0;
  int32_t num_indexed_ = 0;
  bool is_indexed_ = true;
};

}  // namespace rollcall
