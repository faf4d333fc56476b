#include "rollout_worker/kv_cache/swap_space.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "rollout_worker/kv_cache/kv_cache.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr int32_t kBlockSize = 4;

// A block of the test holds one number per token.
class NumberStore final : public BlockStore {
 public:
  explicit NumberStore(int32_t num_blocks)
      : numbers(static_cast<size_t>(num_blocks) * kBlockSize, -1) {}
  int64_t block_bytes() const override { return kBlockSize * sizeof(int64_t); }
  void CopyBlock(BlockId from, BlockId to) override {
    for (int i = 0; i < kBlockSize; ++i) at(to, i) = at(from, i);
  }
  void ReadBlocks(BlockId first, int32_t count, std::byte* out) const override {
    std::memcpy(out, &numbers[static_cast<size_t>(first) * kBlockSize],
                static_cast<size_t>(count * block_bytes()));
  }
  void WriteBlocks(BlockId first, int32_t count, const std::byte* in) override {
    std::memcpy(&numbers[static_cast<size_t>(first) * kBlockSize], in,
                static_cast<size_t>(count * block_bytes()));
  }
  int64_t& at(BlockId block, int32_t slot) {
    return numbers[static_cast<size_t>(block) * kBlockSize + static_cast<size_t>(slot)];
  }
  std::vector<int64_t> numbers;
};

std::unique_ptr<SwapSpace> MakeSpace(int32_t num_blocks, NumberStore& store, Executor& executor) {
  auto space = SwapSpace::Create(num_blocks * store.block_bytes(), kBlockSize, store, executor);
  REQUIRE_OK(space.status());
  return *std::move(space);
}

void Write(const BlockTable& table, int32_t begin, int32_t end, int64_t base, NumberStore* store) {
  for (int32_t i = begin; i < end; ++i) {
    store->at(table.blocks()[static_cast<size_t>(i / kBlockSize)], i % kBlockSize) = base + i;
  }
}

bool Holds(const BlockTable& table, int32_t end, int64_t base, NumberStore* store) {
  for (int32_t i = 0; i < end; ++i) {
    if (store->at(table.blocks()[static_cast<size_t>(i / kBlockSize)], i % kBlockSize) !=
        base + i) {
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("SwapSpace: a sequence comes back as it was", "[unit][kv_cache]") {
  NumberStore store(16);
  InlineExecutor executor;
  const auto space = MakeSpace(8, store, executor);
  KvCache cache(16, kBlockSize);
  BlockTable table;
  REQUIRE(cache.Grow(10, &table));
  Write(table, 0, 10, 100, &store);
  HostCopy copy;
  REQUIRE(space->SwapOut(table, 10, &copy));
  CHECK(copy.num_tokens == 10);
  CHECK(space->num_free() == 5);
  table.Clear();
  std::fill(store.numbers.begin(), store.numbers.end(), -1);
  BlockTable back;
  REQUIRE(cache.Grow(10, &back));
  const auto transfer = space->SwapIn(copy, 0, back);
  transfer->Wait();
  CHECK(Holds(back, 10, 100, &store));
  copy.Clear();
  CHECK(space->num_free() == 8);
}

TEST_CASE("SwapSpace: the second time only what was written since moves", "[unit][kv_cache]") {
  NumberStore store(16);
  InlineExecutor executor;
  const auto space = MakeSpace(8, store, executor);
  KvCache cache(16, kBlockSize);
  BlockTable table;
  REQUIRE(cache.Grow(10, &table));
  Write(table, 0, 10, 0, &store);
  HostCopy copy;
  REQUIRE(space->SwapOut(table, 10, &copy));
  CHECK(space->stats().bytes_out == 3 * store.block_bytes());
  REQUIRE(cache.Grow(18, &table));
  Write(table, 10, 18, 0, &store);
  REQUIRE(space->SwapOut(table, 18, &copy));
  // Two full blocks are still valid; the partial one and the two new ones are copied.
  CHECK(space->stats().bytes_out == (3 + 3) * store.block_bytes());
  CHECK(space->stats().blocks_reused == 2);
  std::fill(store.numbers.begin(), store.numbers.end(), -1);
  space->SwapIn(copy, 0, table)->Wait();
  CHECK(Holds(table, 18, 0, &store));
}

TEST_CASE("SwapSpace: neighbours are one copy", "[unit][kv_cache]") {
  NumberStore store(64);
  InlineExecutor executor;
  const auto space = MakeSpace(64, store, executor);
  KvCache cache(64, kBlockSize);
  // Two sequences that grow in turn would share every second block of a plain list.
  BlockTable a;
  BlockTable b;
  for (int32_t tokens = kBlockSize; tokens <= 16 * kBlockSize; tokens += kBlockSize) {
    REQUIRE(cache.Grow(tokens, &a));
    REQUIRE(cache.Grow(tokens, &b));
  }
  HostCopy copy;
  REQUIRE(space->SwapOut(a, 16 * kBlockSize, &copy));
  CHECK(space->stats().copies_out == 1);
  CHECK(space->stats().bytes_out == 16 * store.block_bytes());
}

TEST_CASE("SwapSpace: without room nothing changes", "[unit][kv_cache]") {
  NumberStore store(16);
  InlineExecutor executor;
  const auto space = MakeSpace(2, store, executor);
  KvCache cache(16, kBlockSize);
  BlockTable table;
  REQUIRE(cache.Grow(12, &table));
  HostCopy copy;
  CHECK_FALSE(space->SwapOut(table, 12, &copy));
  CHECK(copy.num_tokens == 0);
  CHECK(space->num_free() == 2);
  CHECK_FALSE(SwapSpace::Create(1, kBlockSize, store, executor).ok());
}

TEST_CASE("SwapSpace: 50k random swaps on threads lose no byte and no block", "[unit][kv_cache]") {
  constexpr int32_t kBlocks = 32;
  NumberStore store(kBlocks);
  const auto executor = MakeThreadPool(2, 4);
  const auto space = MakeSpace(24, store, *executor);
  KvCache cache(kBlocks, kBlockSize);
  struct Live {
    int64_t base = 0;
    int32_t num_tokens = 0;
    BlockTable table;
    HostCopy copy;
    bool is_out = false;
    std::unique_ptr<SwapTransfer> transfer;
  };
  std::list<Live> live;
  CounterRandom random(9);
  int64_t num_in = 0;
  for (int event = 0; event < 50'000; ++event) {
    const uint64_t kind = random.Below(8);
    if (kind == 0 && live.size() < 10) {
      live.emplace_back();
      live.back().base = event * 1000LL;
    }
    if (live.empty()) continue;
    auto it = std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())));
    if (it->transfer != nullptr && (it->transfer->done() || random.Below(2) == 0)) {
      it->transfer.reset();
      REQUIRE(Holds(it->table, it->num_tokens, it->base, &store));
    }
    if (it->transfer != nullptr) continue;
    if (kind < 4 && !it->is_out) {  // grow
      const auto more = it->num_tokens + 1 + static_cast<int32_t>(random.Below(5));
      if (more > 60 || !cache.Grow(more, &it->table)) continue;
      Write(it->table, it->num_tokens, more, it->base, &store);
      it->num_tokens = more;
    } else if (kind < 6 && !it->is_out && it->num_tokens > 0) {  // out
      if (!space->SwapOut(it->table, it->num_tokens, &it->copy)) continue;
      it->table.Clear();
      it->is_out = true;
    } else if (kind == 6 && it->is_out) {  // in
      if (!cache.Grow(it->num_tokens, &it->table)) continue;
      it->transfer = space->SwapIn(it->copy, 0, it->table);
      it->is_out = false;
      ++num_in;
      if (random.Below(3) == 0) {  // the host copy is given up
        it->transfer->Wait();
        it->copy.Clear();
      }
    } else if (kind == 7) {
      if (!it->is_out) REQUIRE(Holds(it->table, it->num_tokens, it->base, &store));
      live.erase(it);
    }
  }
  CHECK(num_in > 1000);
  live.clear();
  CHECK(cache.num_free() == kBlocks);
  CHECK(space->num_free() == 24);
}

}  // namespace rollcall
