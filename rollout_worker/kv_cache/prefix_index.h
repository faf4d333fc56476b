// Which full blocks hold which tokens, so that equal prefixes are computed once.
//
// A cached block is a node of a tree: its parent is the node of the block before it, the parent of
// a first block is the root of its model (one model is one version of one job's weights). Node ids
// are never used twice, and a lookup compares parent and tokens, not only their hash. So a block
// is found only behind the very prefix and under the very weights that it was computed with.
// Source: vLLM v1, docs/design/prefix_caching.md; the chain over node ids is ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "rollout_worker/kv_cache/block_pool.h"

namespace rollcall {

using ModelId = int64_t;
using NodeId = uint64_t;

// Not thread-safe. Knows nothing of reference counts: the owner erases a block before its memory
// is used for something else.
class PrefixIndex {
 public:
  PrefixIndex(int32_t num_blocks, int32_t block_size);

  // Parent of the first block of every sequence of this model.
  NodeId Root(ModelId model);
  // The same, absent while nothing of the model was indexed.
  std::optional<NodeId> FindRoot(ModelId model) const;

  struct Entry {
    NodeId node = 0;
    BlockId block = kNoBlock;
  };
  // The block that holds these block_size tokens after `parent`.
  std::optional<Entry> Find(NodeId parent, std::span<const int32_t> tokens) const;

  // Remembers that `block` holds these tokens after `parent`. When another block does already, that
  // one stays and its node is returned, so that chains of equal content grow together.
  NodeId Insert(ModelId model, NodeId parent, BlockId block, std::span<const int32_t> tokens);

  // Forgets the block; nothing happens when it is not remembered.
  void Erase(BlockId block);

  // Forgets the model and all its blocks, which are returned.
  std::vector<BlockId> EraseModel(ModelId model);

  bool Contains(BlockId block) const { return records_[block].node != 0; }
  // Model of a remembered block.
  ModelId model(BlockId block) const { return records_[block].model; }
  size_t size() const { return by_hash_.size(); }

 private:
  struct Record {
    NodeId node = 0;  // 0: not remembered
    NodeId parent = 0;
    uint64_t hash = 0;
    ModelId model = 0;
  };
  uint64_t Hash(NodeId parent, std::span<const int32_t> tokens) const;
  bool Matches(BlockId block, NodeId parent, std::span<const int32_t> tokens) const;
  std::span<int32_t> TokensOf(BlockId block);

  const int32_t block_size_;
  NodeId next_node_ = 1;
  std::vector<Record> records_;  // by block
  std::vector<int32_t> tokens_;  // block_size_ per block
  std::unordered_map<uint64_t, BlockId> by_hash_;
  std::unordered_map<ModelId, NodeId> roots_;
};

}  // namespace rollcall
