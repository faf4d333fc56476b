#include "rollout_worker/engine/best_of.h"

#include <vector>

#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("BestOf: the largest sums, best first, without what failed", "[unit][engine]") {
  std::vector<CompletedSample> samples(5);
  samples[0].behavior_logprobs = {-1, -1};
  samples[1].behavior_logprobs = {-0.5};
  samples[2].status = DataLoss("broken");
  samples[3].behavior_logprobs = {-0.25, -0.25};
  samples[4].behavior_logprobs = {-3};
  CHECK(BestOf(samples, 3) == std::vector<size_t>{1, 3, 0});
  CHECK(BestOf(samples, 9) == std::vector<size_t>{1, 3, 0, 4});
  CHECK(BestOf(samples, 0).empty());
  CHECK(BestOf({}, 2).empty());
}

}  // namespace rollcall
