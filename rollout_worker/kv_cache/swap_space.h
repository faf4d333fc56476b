// Host memory for the KV blocks of sequences that gave their place to others.
//
//   running --SwapOut--> host copy --SwapIn--> transfer --done--> running, host copy kept
//
// A host copy stays valid for the tokens that it holds after the sequence came back, so the next
// SwapOut copies only the blocks written since. Copies of running sequences are given up when room
// is short. Neighbours in both places move as one copy.
// Source: FastSwitch, arXiv 2411.18424 (asynchronous swap-in, reuse of host copies). No block is
// allocated while a transfer uses it: swap-out ends before it returns, and the blocks of a swap-in
// belong to the sequence's table all the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "rollout_worker/kv_cache/block_store.h"
#include "rollout_worker/kv_cache/block_table.h"
#include "services/base/runtime/executor.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// The host blocks of one sequence: those that hold its first num_tokens tokens.
struct HostCopy {
  BlockTable blocks;
  int32_t num_tokens = 0;
  void Clear() {
    blocks.Clear();
    num_tokens = 0;
  }
};

// A copy under way into the blocks of a table, which must not be touched before it is done. The
// destructor waits.
class SwapTransfer {
 public:
  ~SwapTransfer() { Wait(); }
  bool done() ABSL_LOCKS_EXCLUDED(mu_);
  // Copies take well under a second; a transfer whose executor is gone runs here.
  void Wait() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class SwapSpace;
  Mutex mu_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

struct SwapStats {
  int64_t num_out = 0;  // sequences
  int64_t num_in = 0;   // sequences
  int64_t bytes_out = 0;
  int64_t bytes_in = 0;
  int64_t copies_out = 0;  // contiguous pieces
  int64_t copies_in = 0;
  int64_t blocks_reused = 0;  // still valid on the host when a sequence was swapped out again
};

// Used from one thread; only the bytes of transfers are moved on the executor's threads.
class SwapSpace {
 public:
  // Takes size_bytes of address space, whose pages are used when blocks are. `store` and
  // `executor` must outlive it. kInvalidArgument: not one block fits; kResourceExhausted: the
  // system refuses.
  static StatusOr<std::unique_ptr<SwapSpace>> Create(int64_t size_bytes, int32_t block_size,
                                                     BlockStore& store, Executor& executor);
  ~SwapSpace();
  SwapSpace(const SwapSpace&) = delete;
  SwapSpace& operator=(const SwapSpace&) = delete;

  // Makes the host copy hold the table's first num_tokens tokens; copies what it lacks. False when
  // host blocks are missing: the copy is as before.
  bool SwapOut(const BlockTable& table, int32_t num_tokens, HostCopy* copy);

  // Starts to copy the host blocks from first_block on into the same places of `table`, which
  // covers copy.num_tokens. Both must stay as they are until the transfer is done.
  std::unique_ptr<SwapTransfer> SwapIn(const HostCopy& copy, int32_t first_block,
                                       const BlockTable& table);

  int64_t block_bytes() const { return store_.block_bytes(); }
  int32_t num_free() const { return pool_.num_free(); }
  int32_t num_blocks() const { return pool_.num_blocks(); }
  const BlockPool& pool() const { return pool_; }
  const SwapStats& stats() const { return stats_; }

 private:
  SwapSpace(int32_t num_blocks, int32_t block_size, BlockStore& store, Executor& executor)
      : block_size_(block_size), store_(store), executor_(executor), pool_(num_blocks) {}
  std::byte* Bytes(BlockId block) const;

  const int32_t block_size_;
  BlockStore& store_;
  Executor& executor_;
  std::byte* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  BlockPool pool_;
  SwapStats stats_;
};

}  // namespace rollcall
