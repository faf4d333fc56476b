#include <algorithm>
#include <numeric>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "trainer/batch/minibatch.h"
#include "trainer/batch/packing.h"
#include "trainer/batch/types.h"

namespace rollcall {
namespace {

TEST_CASE("Trainable tokens: never the first one, never an observation", "[unit][trainer]") {
  TrainSequence sequence;
  sequence.token_ids = {4, 5, 6, 7, 8};
  sequence.trains = {1, 0, 1, 0, 1};
  CHECK(NumTrainable(sequence) == 2);
  CHECK(TrainablePositions(sequence) == std::vector<int64_t>{2, 4});
}

TEST_CASE("Packing: sequences one after the other, each row predicts the next token",
          "[unit][trainer]") {
  TrainSequence a;
  a.token_ids = {10, 11, 12};
  a.trains = {0, 1, 1};
  TrainSequence b;
  b.token_ids = {20, 21};
  b.trains = {0, 1};
  const std::vector<const TrainSequence*> all = {&a, &b};
  const PackedTokens packed = Pack(all, std::vector<int64_t>{1, 0});
  CHECK(packed.token_ids_N == std::vector<int32_t>{20, 21, 10, 11, 12});
  CHECK(packed.positions_N == std::vector<int32_t>{0, 1, 0, 1, 2});
  CHECK(packed.starts == std::vector<int32_t>{0, 2, 5});
  CHECK(packed.targets_T == std::vector<int32_t>{21, 11, 12});
  CHECK(packed.rows_T == std::vector<int64_t>{0, 2, 3});
  CHECK(packed.token_starts == std::vector<int64_t>{0, 1, 3});
}

TEST_CASE("Micro-batches: budget kept, order kept, nothing lost, units whole", "[unit][trainer]") {
  CounterRandom random(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> sizes;
    std::vector<Unit> units;
    for (int u = 0; u < 20; ++u) {
      Unit unit;
      for (uint64_t k = 0; k <= random.Below(2); ++k) {
        unit.push_back(static_cast<int64_t>(sizes.size()));
        sizes.push_back(static_cast<int64_t>(1 + random.Below(40)));
      }
      units.push_back(unit);
    }
    const int64_t budget = 60;
    std::vector<Unit> seen;
    for (const std::vector<Unit>& microbatch : CutMicrobatches(units, sizes, budget)) {
      REQUIRE_FALSE(microbatch.empty());
      int64_t used = 0;
      for (const Unit& unit : microbatch) {
        for (const int64_t s : unit) used += sizes[s];
        seen.push_back(unit);
      }
      // A unit that is larger than the budget stands alone.
      REQUIRE((used <= budget || microbatch.size() == 1));
    }
    REQUIRE(seen == units);
  }
}

TEST_CASE("Minibatches: the same units whatever the world size", "[unit][trainer]") {
  const std::vector<int64_t> units_per_group = {3, 0, 2, 4, 1};
  const int64_t total = 10;
  for (const int64_t num_minibatches : {1, 3}) {
    // Global numbers of the units of each minibatch, from the ranks' local ones.
    const auto members = [&](int world_size) {
      std::vector<std::vector<int64_t>> result(num_minibatches);
      for (int rank = 0; rank < world_size; ++rank) {
        std::vector<int64_t> global;
        int64_t next = 0;
        for (size_t g = 0; g < units_per_group.size(); ++g) {
          for (int64_t u = 0; u < units_per_group[g]; ++u, ++next) {
            if (static_cast<int64_t>(g) % world_size == rank) global.push_back(next);
          }
        }
        const auto assigned = AssignMinibatches({.seed = 9,
                                                 .step = 4,
                                                 .epoch = 1,
                                                 .num_minibatches = num_minibatches,
                                                 .rank = rank,
                                                 .world_size = world_size},
                                                units_per_group);
        for (size_t m = 0; m < assigned.size(); ++m) {
          for (const int64_t u : assigned[m]) result[m].push_back(global[u]);
        }
      }
      for (auto& minibatch : result) std::sort(minibatch.begin(), minibatch.end());
      return result;
    };
    const auto alone = members(1);
    std::vector<int64_t> all;
    for (const auto& minibatch : alone) {
      CHECK(static_cast<int64_t>(minibatch.size()) >= total / num_minibatches);
      all.insert(all.end(), minibatch.begin(), minibatch.end());
    }
    std::sort(all.begin(), all.end());
    std::vector<int64_t> expected(total);
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(all == expected);
    CHECK(members(2) == alone);
    CHECK(members(7) == alone);
  }
}

TEST_CASE("Minibatches: epochs and steps cut differently", "[unit][trainer]") {
  const std::vector<int64_t> units_per_group(8, 4);
  const auto cut = [&](int64_t step, int64_t epoch) {
    return AssignMinibatches({.seed = 1, .step = step, .epoch = epoch, .num_minibatches = 4},
                             units_per_group);
  };
  CHECK(cut(1, 0) == cut(1, 0));
  CHECK(cut(1, 0) != cut(1, 1));
  CHECK(cut(1, 0) != cut(2, 0));
}

}  // namespace
}  // namespace rollcall
