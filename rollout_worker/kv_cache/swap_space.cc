#include "rollout_worker/kv_cache/swap_space.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

namespace rollcall {
namespace {

// Neighbouring blocks on both sides.
struct Piece {
  BlockId device = kNoBlock;
  BlockId host = kNoBlock;
  int32_t count = 0;
};

std::vector<Piece> MakePieces(std::span<const BlockId> device, std::span<const BlockId> host) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < device.size(); ++i) {
    if (!pieces.empty() && pieces.back().device + pieces.back().count == device[i] &&
        pieces.back().host + pieces.back().count == host[i]) {
      ++pieces.back().count;
    } else {
      pieces.push_back({device[i], host[i], 1});
    }
  }
  return pieces;
}

}  // namespace

bool SwapTransfer::done() {
  MutexLock lock(mu_);
  return done_;
}

void SwapTransfer::Wait() {
  MutexLock lock(mu_);
  while (!done_) changed_.WaitFor(mu_, absl::Seconds(1));
}

StatusOr<std::unique_ptr<SwapSpace>> SwapSpace::Create(int64_t size_bytes, int32_t block_size,
                                                       BlockStore& store, Executor& executor) {
  const int64_t num_blocks = std::min<int64_t>(size_bytes / store.block_bytes(), int64_t{1} << 30);
  if (num_blocks < 1) {
    return InvalidArgument("one KV block takes " + std::to_string(store.block_bytes()) +
                           " bytes, the swap space has " + std::to_string(size_bytes) +
                           "; raise --swap-mib, or set it to 0 to preempt by recomputation");
  }
  std::unique_ptr<SwapSpace> space(
      new SwapSpace(static_cast<int32_t>(num_blocks), block_size, store, executor));
  space->memory_bytes_ = static_cast<size_t>(num_blocks * store.block_bytes());
  void* memory = mmap(nullptr, space->memory_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    space->memory_bytes_ = 0;
    return ResourceExhausted("the system refused " + std::to_string(size_bytes >> 20) +
                             " MiB of swap space; a smaller --swap-mib would fit");
  }
  space->memory_ = static_cast<std::byte*>(memory);
  return space;
}

SwapSpace::~SwapSpace() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

std::byte* SwapSpace::Bytes(BlockId block) const {
  return memory_ + static_cast<size_t>(block) * static_cast<size_t>(store_.block_bytes());
}

bool SwapSpace::SwapOut(const BlockTable& table, int32_t num_tokens, HostCopy* copy) {
  const int32_t num_wanted = (num_tokens + block_size_ - 1) / block_size_;
  ROLLCALL_CHECK(num_wanted <= table.size() && copy->num_tokens <= num_tokens,
                 "a host copy never holds more than the sequence");
  std::vector<BlockId>& host = copy->blocks.blocks_;
  if (num_wanted - static_cast<int32_t>(host.size()) > pool_.num_free()) return false;
  copy->blocks.pool_ = &pool_;
  while (static_cast<int32_t>(host.size()) < num_wanted) {
    // After the last one where that is free, so that pieces grow.
    const BlockId next = host.empty() ? kNoBlock : host.back() + 1;
    const bool is_next_free =
        next != kNoBlock && next < pool_.num_blocks() && pool_.AllocateBlock(next);
    host.push_back(is_next_free ? next : pool_.Allocate());
  }
  // A block that was full when it was copied has not changed since.
  const auto num_valid = static_cast<size_t>(copy->num_tokens / block_size_);
  const auto pieces =
      MakePieces(table.blocks().subspan(num_valid, static_cast<size_t>(num_wanted) - num_valid),
                 std::span<const BlockId>(host).subspan(num_valid));
  for (const Piece& piece : pieces) {
    store_.ReadBlocks(piece.device, piece.count, Bytes(piece.host));
    stats_.bytes_out += piece.count * store_.block_bytes();
  }
  copy->num_tokens = num_tokens;
  ++stats_.num_out;
  stats_.copies_out += static_cast<int64_t>(pieces.size());
  stats_.blocks_reused += static_cast<int64_t>(num_valid);
  return true;
}

std::unique_ptr<SwapTransfer> SwapSpace::SwapIn(const HostCopy& copy, int32_t first_block,
                                                const BlockTable& table) {
  const std::span<const BlockId> host = copy.blocks.blocks();
  ROLLCALL_CHECK(static_cast<size_t>(table.size()) >= host.size(),
                 "a swap-in has a place for every block");
  const auto first = static_cast<size_t>(first_block);
  const size_t count = host.size() > first ? host.size() - first : 0;
  std::vector<Piece> pieces =
      MakePieces(table.blocks().subspan(first, count), host.subspan(host.size() - count));
  ++stats_.num_in;
  stats_.bytes_in += static_cast<int64_t>(count) * store_.block_bytes();
  stats_.copies_in += static_cast<int64_t>(pieces.size());
  auto transfer = std::make_unique<SwapTransfer>();
  const auto run = [this, pieces = std::move(pieces), transfer = transfer.get()] {
    for (const Piece& piece : pieces) {
      store_.WriteBlocks(piece.device, piece.count, Bytes(piece.host));
    }
    MutexLock lock(transfer->mu_);
    transfer->done_ = true;
    transfer->changed_.NotifyAll();
  };
  // A full queue is no reason to wait: the copy is made here.
  if (!executor_.Schedule(run).ok()) run();
  return transfer;
}

}  // namespace rollcall
