#include "services/common/data/pass_order.h"

#include <algorithm>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("PassOrder: a permutation that seed and pass fix", "[unit][data]") {
  std::set<std::vector<int64_t>> orders;
  for (const uint64_t seed : {0, 1}) {
    for (const int64_t pass : {0, 1, 2}) {
      std::vector<int64_t> order = PassOrder(seed, pass, 50, true);
      CHECK(order == PassOrder(seed, pass, 50, true));
      orders.insert(order);
      std::sort(order.begin(), order.end());
      CHECK(order == PassOrder(seed, pass, 50, false));
    }
  }
  CHECK(orders.size() == 6);
  CHECK(PassOrder(1, 0, 0, true).empty());
  CHECK(PassOrder(1, 0, 1, true) == std::vector<int64_t>{0});
}

TEST_CASE("PassOrder: every row is equally likely to come first", "[unit][data]") {
  constexpr int kRows = 4;
  constexpr int kPasses = 8000;
  std::vector<int> first(kRows);
  for (int pass = 0; pass < kPasses; ++pass) ++first[PassOrder(5, pass, kRows, true)[0]];
  // Binomial(8000, 1/4): standard deviation 39; six of them.
  for (const int count : first) CHECK(std::abs(count - kPasses / kRows) < 233);
}

}  // namespace
}  // namespace rollcall
