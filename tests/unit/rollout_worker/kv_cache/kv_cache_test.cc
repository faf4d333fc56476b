#include "rollout_worker/kv_cache/kv_cache.h"

#include <algorithm>
#include <list>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("BlockPool: blocks are reused in the order in which they became free",
          "[unit][kv_cache]") {
  BlockPool pool(3);
  const BlockId a = pool.Allocate();
  const BlockId b = pool.Allocate();
  const BlockId c = pool.Allocate();
  CHECK(pool.Allocate() == kNoBlock);
  pool.Release(b);
  pool.Release(a);
  pool.Release(c);
  CHECK(pool.Allocate() == b);
  CHECK(pool.Allocate() == a);
  CHECK(pool.Allocate() == c);
}

TEST_CASE("BlockPool: freeing the last reference returns the block", "[unit][kv_cache]") {
  BlockPool pool(2);
  const BlockId block = pool.Allocate();
  pool.Acquire(block);
  pool.Release(block);
  CHECK(pool.num_free() == 1);
  pool.Release(block);
  CHECK(pool.num_free() == 2);
  pool.Acquire(block);
  CHECK(pool.num_free() == 1);
  CHECK(pool.num_references(block) == 1);
}

TEST_CASE("BlockPool: a free block can be made the next one", "[unit][kv_cache]") {
  BlockPool pool(4);
  pool.ReuseFirst(2);
  CHECK(pool.Allocate() == 2);
  pool.ReuseFirst(2);  // held: stays held
  CHECK(pool.Allocate() == 0);
}

TEST_CASE("BlockPool: agrees with a list over 100k random operations", "[unit][kv_cache]") {
  constexpr int kBlocks = 37;
  BlockPool pool(kBlocks);
  std::list<BlockId> free_list(kBlocks);
  std::iota(free_list.begin(), free_list.end(), 0);
  std::vector<int> references(kBlocks, 0);
  CounterRandom random(11);
  for (int i = 0; i < 100'000; ++i) {
    const auto block = static_cast<BlockId>(random.Below(kBlocks));
    switch (random.Below(4)) {
      case 0: {
        const BlockId got = pool.Allocate();
        REQUIRE(got == (free_list.empty() ? kNoBlock : free_list.front()));
        if (got == kNoBlock) break;
        free_list.pop_front();
        references[got] = 1;
        break;
      }
      case 1:
        pool.Acquire(block);
        if (references[block]++ == 0) free_list.remove(block);
        break;
      case 2:
        if (references[block] == 0) break;
        pool.Release(block);
        if (--references[block] == 0) free_list.push_back(block);
        break;
      default:
        if (references[block] > 0) break;
        pool.ReuseFirst(block);
        free_list.remove(block);
        free_list.push_front(block);
    }
    REQUIRE(pool.num_references(block) == references[block]);
    REQUIRE(pool.num_free() == static_cast<int>(free_list.size()));
  }
}

TEST_CASE("PrefixIndex: a block is found only behind its own prefix and model",
          "[unit][kv_cache]") {
  PrefixIndex index(8, 2);
  const std::vector<int32_t> ab = {1, 2};
  const std::vector<int32_t> cd = {3, 4};
  const NodeId first = index.Insert(7, index.Root(7), 0, ab);
  index.Insert(7, first, 1, cd);
  CHECK(index.Find(index.Root(7), ab)->block == 0);
  CHECK(index.Find(first, cd)->block == 1);
  CHECK_FALSE(index.Find(index.Root(7), cd).has_value());
  CHECK_FALSE(index.Find(first, ab).has_value());
  CHECK_FALSE(index.Find(index.Root(8), ab).has_value());
}

TEST_CASE("PrefixIndex: equal content keeps its first block and its node", "[unit][kv_cache]") {
  PrefixIndex index(8, 2);
  const std::vector<int32_t> ab = {1, 2};
  const NodeId first = index.Insert(1, index.Root(1), 0, ab);
  CHECK(index.Insert(1, index.Root(1), 5, ab) == first);
  CHECK_FALSE(index.Contains(5));
  index.Erase(0);
  CHECK_FALSE(index.Find(index.Root(1), ab).has_value());
  CHECK(index.Insert(1, index.Root(1), 5, ab) != first);
}

TEST_CASE("PrefixIndex: erasing a model forgets its blocks and no others", "[unit][kv_cache]") {
  PrefixIndex index(8, 1);
  const std::vector<int32_t> token = {9};
  index.Insert(1, index.Root(1), 0, token);
  index.Insert(2, index.Root(2), 1, token);
  CHECK(index.EraseModel(1) == std::vector<BlockId>{0});
  CHECK_FALSE(index.Find(index.Root(1), token).has_value());
  CHECK(index.Find(index.Root(2), token)->block == 1);
}

TEST_CASE("KvCache: a prefix hit never covers the last token", "[unit][kv_cache]") {
  KvCache cache(16, 4);
  std::vector<int32_t> tokens(12);
  std::iota(tokens.begin(), tokens.end(), 0);
  BlockTable first;
  REQUIRE(cache.Grow(12, &first));
  cache.MarkComputed(1, tokens, 12, &first);
  first.Clear();
  CHECK(cache.num_used() == 0);
  BlockTable second;
  CHECK(cache.MatchPrefix(1, tokens, &second) == 8);
  CHECK(cache.num_used() == 2);
  tokens.push_back(12);
  BlockTable third;
  CHECK(cache.MatchPrefix(1, tokens, &third) == 12);
  BlockTable other_model;
  CHECK(cache.MatchPrefix(2, tokens, &other_model) == 0);
}

TEST_CASE("KvCache: Grow takes all or nothing", "[unit][kv_cache]") {
  KvCache cache(3, 4);
  BlockTable table;
  CHECK_FALSE(cache.Grow(13, &table));
  CHECK(table.empty());
  CHECK(cache.Grow(9, &table));
  CHECK(table.size() == 3);
  CHECK(cache.num_free() == 0);
}

TEST_CASE("KvCache: a fork shares full blocks and copies the partial one", "[unit][kv_cache]") {
  KvCache cache(8, 4);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6};
  BlockTable parent;
  REQUIRE(cache.Grow(6, &parent));
  cache.MarkComputed(1, tokens, 6, &parent);
  BlockTable child;
  const auto fork = cache.Fork(parent, 6, &child);
  REQUIRE(fork.ok);
  REQUIRE(fork.copy.has_value());
  CHECK(child.blocks()[0] == parent.blocks()[0]);
  CHECK(cache.pool().num_references(child.blocks()[0]) == 2);
  CHECK(fork.copy->from == parent.blocks()[1]);
  CHECK(fork.copy->to == child.blocks()[1]);
  CHECK(child.blocks()[1] != parent.blocks()[1]);
  CHECK(cache.num_used() == 3);
}

TEST_CASE("KvCache: the blocks of a dropped model are reused first", "[unit][kv_cache]") {
  KvCache cache(8, 2);
  const std::vector<int32_t> tokens = {1, 2};
  BlockTable table;
  REQUIRE(cache.Grow(2, &table));
  const BlockId block = table.blocks()[0];
  cache.MarkComputed(1, tokens, 2, &table);
  table.Clear();
  cache.DropModel(1);
  BlockTable next;
  REQUIRE(cache.Grow(1, &next));
  CHECK(next.blocks()[0] == block);
}

// Runs sequences of three models through a small pool. The model of the test writes down, for every
// block, under which model and behind which tokens it was filled; a hit must show exactly that.
TEST_CASE("KvCache: 100k random events leak nothing and read nothing foreign", "[unit][kv_cache]") {
  constexpr int32_t kBlocks = 24;
  constexpr int32_t kBlockSize = 4;
  KvCache cache(kBlocks, kBlockSize);
  struct Live {
    ModelId model = 0;
    std::vector<int32_t> tokens;
    int32_t num_computed = 0;
    BlockTable table;
  };
  // What the memory of a block really holds: (model, all tokens up to its end), slot by slot.
  using Content = std::pair<ModelId, std::vector<int32_t>>;
  std::vector<std::vector<Content>> memory(kBlocks, std::vector<Content>(kBlockSize));
  std::list<Live> live;
  ModelId newest = 3;
  CounterRandom random(2024);
  int64_t hits = 0;
  int64_t forks = 0;

  const auto check_reads = [&](const Live& sequence, int32_t end) {
    for (int32_t i = 0; i < end; ++i) {
      const Content& slot = memory[sequence.table.blocks()[i / kBlockSize]][i % kBlockSize];
      REQUIRE(slot.first == sequence.model);
      REQUIRE(std::equal(slot.second.begin(), slot.second.end(), sequence.tokens.begin(),
                         sequence.tokens.begin() + i + 1));
    }
  };

  for (int event = 0; event < 100'000; ++event) {
    const uint64_t kind = random.Below(16);
    if (kind < 4 && live.size() < 12) {  // a new sequence; few distinct tokens, so prefixes repeat
      Live sequence;
      sequence.model = newest - static_cast<ModelId>(random.Below(3));
      const size_t length = 1 + random.Below(18);
      for (size_t i = 0; i < length; ++i) {
        sequence.tokens.push_back(static_cast<int32_t>(random.Below(4) == 0));
      }
      sequence.num_computed = cache.MatchPrefix(sequence.model, sequence.tokens, &sequence.table);
      REQUIRE(sequence.num_computed < static_cast<int32_t>(length));
      hits += sequence.num_computed > 0;
      check_reads(sequence, sequence.num_computed);
      live.push_back(std::move(sequence));
    } else if (kind < 11 && !live.empty()) {  // compute one chunk
      auto it = std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())));
      if (it->num_computed == static_cast<int32_t>(it->tokens.size())) {
        it->tokens.push_back(static_cast<int32_t>(random.Below(4) == 0));
      }
      const auto left = static_cast<uint64_t>(it->tokens.size()) - it->num_computed;
      const int32_t end = it->num_computed + 1 + static_cast<int32_t>(random.Below(left));
      if (!cache.Grow(end, &it->table)) {
        live.erase(it);  // preempted for good
        continue;
      }
      for (int32_t i = it->num_computed; i < end; ++i) {
        const BlockId block = it->table.blocks()[i / kBlockSize];
        REQUIRE(cache.pool().num_references(block) == 1);  // nobody writes shared memory
        memory[block][i % kBlockSize] = {it->model,
                                         {it->tokens.begin(), it->tokens.begin() + i + 1}};
      }
      it->num_computed = end;
      check_reads(*it, end);
      cache.MarkComputed(it->model, it->tokens, end, &it->table);
    } else if (kind < 13 && !live.empty() && live.size() < 12) {  // fork
      auto it = std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())));
      if (it->num_computed == 0) continue;
      Live child;
      child.model = it->model;
      child.tokens.assign(it->tokens.begin(), it->tokens.begin() + it->num_computed);
      const auto fork = cache.Fork(it->table, it->num_computed, &child.table);
      if (!fork.ok) continue;
      if (fork.copy) memory[fork.copy->to] = memory[fork.copy->from];
      child.num_computed = it->num_computed;
      check_reads(child, child.num_computed);
      ++forks;
      live.push_back(std::move(child));
    } else if (kind < 15 && !live.empty()) {  // finish
      live.erase(std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size()))));
    } else if (random.Below(20) == 0) {  // a new version; the oldest goes with its sequences
      const ModelId oldest = newest - 2;
      live.remove_if([&](const Live& sequence) { return sequence.model == oldest; });
      cache.DropModel(oldest);
      ++newest;
    }
    // Reference counts are exactly the tables that hold a block.
    std::vector<int> held(kBlocks, 0);
    for (const Live& sequence : live) {
      for (const BlockId block : sequence.table.blocks()) ++held[block];
    }
    int used = 0;
    for (BlockId block = 0; block < kBlocks; ++block) {
      REQUIRE(cache.pool().num_references(block) == held[block]);
      used += held[block] > 0;
    }
    REQUIRE(cache.num_used() == used);
  }
  CHECK(hits > 1000);
  CHECK(forks > 1000);
  live.clear();
  CHECK(cache.num_free() == kBlocks);
}

}  // namespace rollcall
