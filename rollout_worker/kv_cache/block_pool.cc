#include "rollout_worker/kv_cache/block_pool.h"

#include "services/base/status/status.h"

namespace rollcall {

BlockPool::BlockPool(int32_t num_blocks)
    : num_blocks_(num_blocks), records_(static_cast<size_t>(num_blocks) + 1) {
  ROLLCALL_CHECK(num_blocks > 0, "a KV pool needs at least one block");
  const int32_t sentinel = num_blocks_;
  records_[sentinel].previous = sentinel;
  records_[sentinel].next = sentinel;
  for (int32_t block = 0; block < num_blocks_; ++block) LinkBefore(block, sentinel);
}

size_t BlockPool::Index(BlockId block) const {
  ROLLCALL_CHECK(block >= 0 && block < num_blocks_, "block id outside the pool");
  return static_cast<size_t>(block);
}

void BlockPool::Unlink(int32_t index) {
  Record& record = records_[index];
  records_[record.previous].next = record.next;
  records_[record.next].previous = record.previous;
  --num_free_;
}

void BlockPool::LinkBefore(int32_t index, int32_t next) {
  Record& record = records_[index];
  record.next = next;
  record.previous = records_[next].previous;
  records_[record.previous].next = index;
  records_[next].previous = index;
  ++num_free_;
}

BlockId BlockPool::Allocate() {
  const int32_t head = records_[num_blocks_].next;
  if (head == num_blocks_) return kNoBlock;
  Unlink(head);
  records_[head].num_references = 1;
  return head;
}

bool BlockPool::AllocateBlock(BlockId block) {
  Record& record = records_[Index(block)];
  if (record.num_references > 0) return false;
  Unlink(block);
  record.num_references = 1;
  return true;
}

void BlockPool::Acquire(BlockId block) {
  Record& record = records_[Index(block)];
  if (record.num_references == 0) Unlink(block);
  ++record.num_references;
}

void BlockPool::Release(BlockId block) {
  Record& record = records_[Index(block)];
  ROLLCALL_CHECK(record.num_references > 0, "a free block was released");
  if (--record.num_references > 0) return;
  record.released = ++num_releases_;
  LinkBefore(block, num_blocks_);
}

void BlockPool::ReuseFirst(BlockId block) {
  if (records_[Index(block)].num_references > 0) return;
  Unlink(block);
  LinkBefore(block, records_[num_blocks_].next);
}

}  // namespace rollcall
