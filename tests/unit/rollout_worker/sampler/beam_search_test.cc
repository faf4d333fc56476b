#include "rollout_worker/sampler/beam_search.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Row = std::vector<float>;

// A round; the last beam first, as the order must not matter.
Status Round(BeamSearch* search, const std::vector<Row>& rows) {
  REQUIRE(rows.size() == search->live().size());
  for (size_t beam = rows.size(); beam-- > 0;) {
    CHECK_FALSE(search->is_expanded(beam));
    CHECK_FALSE(search->is_round_complete());
    ROLLCALL_RETURN_IF_ERROR(search->Expand(beam, rows[beam]));
    CHECK(search->is_expanded(beam));
  }
  REQUIRE(search->is_round_complete());
  search->Advance();
  return OkStatus();
}

// A row whose probabilities are these.
Row Probabilities(std::initializer_list<double> values) {
  Row row;
  for (const double p : values) row.push_back(static_cast<float>(std::log(p)));
  return row;
}

}  // namespace

TEST_CASE("BeamSearch: two beams worked by hand", "[unit][sampler]") {
  // Token 0 stops. The greedy first token, 1, leads to worse than the second, 2.
  BeamSearch search({.num_beams = 2}, {.max_new_tokens = 3, .stop_token_ids = {0}}, 3);
  REQUIRE(search.live().size() == 1);
  REQUIRE_OK(Round(&search, {Probabilities({0.1, 0.5, 0.4})}));
  REQUIRE(search.live().size() == 2);
  CHECK(search.live()[0].tokens == std::vector<int32_t>{1});
  CHECK(search.live()[1].tokens == std::vector<int32_t>{2});
  REQUIRE_OK(Round(&search, {Probabilities({0.4, 0.3, 0.3}), Probabilities({0.9, 0.05, 0.05})}));
  // 2,0 with 0.36 and 1,0 with 0.2 are the two best, so both end.
  CHECK(search.is_done());
  const auto best = search.TakeBest();
  REQUIRE(best.size() == 2);
  CHECK(best[0].tokens == std::vector<int32_t>{2, 0});
  CHECK(best[0].score == Approx(std::log(0.36) / 2).epsilon(1e-5));
  CHECK(best[1].tokens == std::vector<int32_t>{1, 0});
  REQUIRE(best[1].logprobs.size() == 2);
  CHECK(best[1].logprobs[0] == Approx(std::log(0.5)).epsilon(1e-5));
  CHECK(best[1].logprobs[1] == Approx(std::log(0.4)).epsilon(1e-5));
}

TEST_CASE("BeamSearch: live beams name the beam that they go on from", "[unit][sampler]") {
  BeamSearch search({.num_beams = 2}, {.max_new_tokens = 9}, 3);
  REQUIRE_OK(Round(&search, {Probabilities({0.1, 0.6, 0.3})}));
  REQUIRE_OK(
      Round(&search, {Probabilities({0.34, 0.33, 0.33}), Probabilities({0.98, 0.01, 0.01})}));
  CHECK(search.live()[0].parent == 1);
  CHECK(search.live()[0].tokens == std::vector<int32_t>{2, 0});
  CHECK(search.live()[1].parent == 0);
  CHECK(search.live()[1].tokens == std::vector<int32_t>{1, 0});
}

TEST_CASE("BeamSearch: equal scores go to the lower beam, then to the lower token",
          "[unit][sampler]") {
  BeamSearch search({.num_beams = 3}, {.max_new_tokens = 9}, 4);
  const Row even = {0.5F, 0.5F, 0.5F, 0.5F};
  REQUIRE_OK(Round(&search, {even}));
  CHECK(search.live()[2].tokens == std::vector<int32_t>{2});
  REQUIRE_OK(Round(&search, {even, even, even}));
  for (int32_t i = 0; i < 3; ++i) {
    CHECK(search.live()[static_cast<size_t>(i)].tokens == std::vector<int32_t>{0, i});
  }
}

TEST_CASE("BeamSearch: wrong options and logits are refused", "[unit][sampler]") {
  CHECK(CheckBeamOptions({}).ok());
  CHECK(!CheckBeamOptions({.num_beams = 0}).ok());
  CHECK(!CheckBeamOptions({.num_beams = 65}).ok());
  CHECK(!CheckBeamOptions({.length_penalty = std::nan("")}).ok());
  BeamSearch search({.num_beams = 2}, {.max_new_tokens = 2}, 2);
  CHECK(Round(&search, {{0.0F, std::numeric_limits<float>::infinity()}}).code() ==
        StatusCode::kDataLoss);
}

}  // namespace rollcall
