// The pool of KV blocks: reference counts, and the free list in order of last use.
//
//   free --Allocate/Acquire--> held (count 1) --Acquire--> held (count n) --Release--> ... --> free
//
// The free list is intrusive and doubly linked, so that a free block whose content is wanted again
// leaves the middle of the list in O(1). Allocate takes the block that was free for longest; its
// old content is gone from then on, so the caller must forget what it remembers about it.
// Source: vLLM v1, vllm/v1/core/block_pool.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rollcall {

using BlockId = int32_t;
inline constexpr BlockId kNoBlock = -1;

// Not thread-safe. Every operation is O(1). A block that is released more often than held is a
// broken invariant.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // The block that was free for longest, with one reference; kNoBlock when none is free.
  BlockId Allocate();
  // This very block, with one reference; false when it is not free.
  bool AllocateBlock(BlockId block);
  // One more reference; a free block becomes held.
  void Acquire(BlockId block);
  // One reference less; the last one makes the block free, to be reused after all blocks that are
  // free already.
  void Release(BlockId block);
  // Makes a free block the next one to be reused; does nothing to a held one.
  void ReuseFirst(BlockId block);

  bool is_free(BlockId block) const { return records_[Index(block)].num_references == 0; }
  // How many blocks became free after this free one did: how old it is in the free list.
  uint64_t age(BlockId block) const { return num_releases_ - records_[Index(block)].released; }

  int32_t num_references(BlockId block) const { return records_[Index(block)].num_references; }
  int32_t num_free() const { return num_free_; }
  int32_t num_blocks() const { return num_blocks_; }

 private:
  struct Record {
    int32_t num_references = 0;
    int32_t previous = 0;  // links of the free list; indices into records_
    int32_t next = 0;
    uint64_t released = 0;  // num_releases_ when it became free
  };
  // The record after the last block is the list's sentinel.
  size_t Index(BlockId block) const;
  void Unlink(int32_t index);
  void LinkBefore(int32_t index, int32_t next);

  const int32_t num_blocks_;
  int32_t num_free_ = 0;
  uint64_t num_releases_ = 0;
  std::vector<Record> records_;
};

}  // namespace rollcall
