#include "rollout_worker/kv_cache/prefix_index.h"

#include <algorithm>

#include "services/base/status/status.h"

namespace rollcall {
namespace {

// Finalizer of MurmurHash3: spreads one word over all bits.
uint64_t Spread(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  x ^= x >> 33;
  return x;
}

}  // namespace

PrefixIndex::PrefixIndex(int32_t num_blocks, int32_t block_size)
    : block_size_(block_size),
      records_(static_cast<size_t>(num_blocks)),
      tokens_(static_cast<size_t>(num_blocks) * static_cast<size_t>(block_size)) {
  ROLLCALL_CHECK(block_size > 0, "a KV block holds at least one token");
}

NodeId PrefixIndex::Root(ModelId model) {
  const auto [it, inserted] = roots_.try_emplace(model, next_node_);
  if (inserted) ++next_node_;
  return it->second;
}

std::optional<NodeId> PrefixIndex::FindRoot(ModelId model) const {
  const auto it = roots_.find(model);
  if (it == roots_.end()) return std::nullopt;
  return it->second;
}

uint64_t PrefixIndex::Hash(NodeId parent, std::span<const int32_t> tokens) const {
  uint64_t hash = Spread(parent);
  for (const int32_t token : tokens) {
    hash = Spread(hash ^ (static_cast<uint32_t>(token) + 0x9e3779b97f4a7c15ULL));
  }
  return hash;
}

std::span<int32_t> PrefixIndex::TokensOf(BlockId block) {
  return {tokens_.data() + static_cast<size_t>(block) * block_size_,
          static_cast<size_t>(block_size_)};
}

bool PrefixIndex::Matches(BlockId block, NodeId parent, std::span<const int32_t> tokens) const {
  return records_[block].parent == parent &&
         std::equal(tokens.begin(), tokens.end(),
                    tokens_.begin() + static_cast<ptrdiff_t>(block) * block_size_);
}

std::optional<PrefixIndex::Entry> PrefixIndex::Find(NodeId parent,
                                                    std::span<const int32_t> tokens) const {
  ROLLCALL_CHECK(static_cast<int32_t>(tokens.size()) == block_size_, "only full blocks are cached");
  const auto it = by_hash_.find(Hash(parent, tokens));
  if (it == by_hash_.end() || !Matches(it->second, parent, tokens)) return std::nullopt;
  return Entry{records_[it->second].node, it->second};
}

NodeId PrefixIndex::Insert(ModelId model, NodeId parent, BlockId block,
                           std::span<const int32_t> tokens) {
  ROLLCALL_CHECK(static_cast<int32_t>(tokens.size()) == block_size_, "only full blocks are cached");
  ROLLCALL_CHECK(!Contains(block), "the block is cached already");
  const uint64_t hash = Hash(parent, tokens);
  const auto [it, inserted] = by_hash_.try_emplace(hash, block);
  if (!inserted) {
    if (Matches(it->second, parent, tokens)) return records_[it->second].node;
    // Two contents with one 64-bit hash: the older one stays, this one is found by nobody.
    return next_node_++;
  }
  records_[block] = {.node = next_node_++, .parent = parent, .hash = hash, .model = model};
  std::copy(tokens.begin(), tokens.end(), TokensOf(block).begin());
  return records_[block].node;
}

void PrefixIndex::Erase(BlockId block) {
  Record& record = records_[block];
  if (record.node == 0) return;
  by_hash_.erase(record.hash);
  record = Record{};
}

std::vector<BlockId> PrefixIndex::EraseModel(ModelId model) {
  std::vector<BlockId> erased;
  for (size_t block = 0; block < records_.size(); ++block) {
    if (records_[block].node == 0 || records_[block].model != model) continue;
    erased.push_back(static_cast<BlockId>(block));
    Erase(static_cast<BlockId>(block));
  }
  roots_.erase(model);
  return erased;
}

}  // namespace rollcall
