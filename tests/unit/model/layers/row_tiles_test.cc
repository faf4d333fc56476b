#include "services/model/layers/row_tiles.h"

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "services/base/runtime/thread_team.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("RowTiles: every row once, in tiles of bounded height", "[unit][model][torch]") {
  for (const int num_threads : {1, 2, 3, 7}) {
    ThreadTeam team(num_threads);
    for (int64_t num_rows = 0; num_rows < 1500; num_rows += 1 + num_rows / 7) {
      INFO(num_rows << " rows, " << num_threads << " threads");
      const RowTiles tiles(num_rows, {.team = &team});
      std::vector<std::atomic<int>> seen(static_cast<size_t>(num_rows));
      std::atomic<int64_t> highest{0};
      tiles.Run([&](int64_t first, int64_t count, const Compute& compute) {
        if (compute.num_threads() != 1 || at::GradMode::is_enabled()) highest = num_rows + 1;
        for (int64_t expected = highest; count > expected;) {
          if (highest.compare_exchange_weak(expected, count)) break;
        }
        for (int64_t row = first; row < first + count; ++row) ++seen[static_cast<size_t>(row)];
      });
      for (const std::atomic<int>& count : seen) REQUIRE(count == 1);
      CHECK(highest <= (tiles.is_cut() ? RowTiles::kMostRows : num_rows));
      CHECK(tiles.is_cut() == (num_rows >= RowTiles::kLeastRows * num_threads &&
                               (num_threads > 1 || num_rows > RowTiles::kMostRows)));
    }
  }
}

TEST_CASE("RowTiles: what a tile throws comes out when all have ended", "[unit][model][torch]") {
  ThreadTeam team(2);
  const RowTiles tiles(1000, {.team = &team});
  std::atomic<int64_t> rows{0};
  CHECK_THROWS_AS(tiles.Run([&](int64_t first, int64_t count, const Compute&) {
    rows += count;
    if (first > 300) throw std::out_of_range("row");
  }),
                  std::out_of_range);
  CHECK(rows == 1000);
}

}  // namespace
}  // namespace rollcall
