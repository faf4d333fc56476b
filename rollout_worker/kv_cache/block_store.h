// Where the bytes of KV blocks are. Block ids elsewhere say who owns which bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rollout_worker/kv_cache/block_pool.h"

namespace rollcall {

// Reading and writing may run on any thread, as long as nobody else uses the blocks meanwhile. The
// bytes mean the same to every store of the same model, block size and precision.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  virtual int64_t block_bytes() const = 0;
  // Copies the content of a whole block.
  virtual void CopyBlock(BlockId from, BlockId to) = 0;
  // Blocks first .. first+count-1 to or from count * block_bytes() bytes, in one piece.
  virtual void ReadBlocks(BlockId first, int32_t count, std::byte* out) const = 0;
  virtual void WriteBlocks(BlockId first, int32_t count, const std::byte* in) = 0;
};

}  // namespace rollcall
