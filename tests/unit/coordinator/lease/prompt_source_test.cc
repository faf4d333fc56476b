#include "services/coordinator/lease/prompt_source.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

TEST_CASE("PromptSource: rows in file order without shuffle", "[unit][coordinator]") {
  PromptSource source({3, 5, 8, 9}, 1, /*shuffle=*/false, 2);
  CHECK(source.Rows(0) == std::vector<int64_t>{3, 5});
  CHECK(source.Rows(1) == std::vector<int64_t>{8, 9});
  CHECK(source.Rows(2) == std::vector<int64_t>{3, 5});
}

TEST_CASE("PromptSource: the last iteration of a pass fills up from its start",
          "[unit][coordinator]") {
  PromptSource source({0, 1, 2, 3, 4}, 1, /*shuffle=*/false, 2);
  CHECK(source.Rows(2) == std::vector<int64_t>{4, 0});
  CHECK(source.Rows(3) == std::vector<int64_t>{0, 1});
}

TEST_CASE("PromptSource: a job that resumes goes on with the same rows, dropped ones left out",
          "[unit][coordinator]") {
  // Rows 0, 3 and 6 were dropped. A source that was never asked for the first iterations gives the
  // later ones as one that was: nothing but seed and number decides.
  const std::vector<int64_t> usable = {1, 2, 4, 5, 7, 8, 9};
  PromptSource whole(usable, 5, /*shuffle=*/true, 2);
  std::vector<std::vector<int64_t>> iterations;
  for (int64_t i = 0; i < 30; ++i) {
    iterations.push_back(whole.Rows(i));
    for (const int64_t row : iterations.back()) {
      CHECK(std::find(usable.begin(), usable.end(), row) != usable.end());
    }
  }
  for (int64_t resume = 0; resume < 30; ++resume) {
    PromptSource resumed(usable, 5, /*shuffle=*/true, 2);
    for (int64_t i = resume; i < 30; ++i) {
      REQUIRE(resumed.Rows(i) == iterations[static_cast<size_t>(i)]);
    }
  }
}

TEST_CASE("PromptSource: every row in every pass, none twice in an iteration",
          "[unit][coordinator]") {
  for (int64_t num_rows = 1; num_rows <= 12; ++num_rows) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < num_rows; ++i) ids.push_back(100 + i);
    for (int64_t per_step = 1; per_step <= num_rows; ++per_step) {
      PromptSource source(ids, 7, /*shuffle=*/true, per_step);
      const int64_t per_pass = (num_rows + per_step - 1) / per_step;
      for (int64_t pass = 0; pass < 3; ++pass) {
        std::set<int64_t> seen;
        for (int64_t i = 0; i < per_pass; ++i) {
          const std::vector<int64_t> rows = source.Rows(pass * per_pass + i);
          REQUIRE(static_cast<int64_t>(rows.size()) == per_step);
          REQUIRE(std::set<int64_t>(rows.begin(), rows.end()).size() == rows.size());
          seen.insert(rows.begin(), rows.end());
        }
        REQUIRE(seen == std::set<int64_t>(ids.begin(), ids.end()));
      }
    }
  }
}

TEST_CASE("PromptSource: an iteration is the same in whatever order it is asked for",
          "[unit][coordinator]") {
  const std::vector<int64_t> ids = {0, 1, 2, 3, 4, 5, 6};
  PromptSource forward(ids, 11, /*shuffle=*/true, 3);
  PromptSource backward(ids, 11, /*shuffle=*/true, 3);
  PromptSource other_seed(ids, 12, /*shuffle=*/true, 3);
  std::map<int64_t, std::vector<int64_t>> rows;
  for (int64_t i = 0; i < 20; ++i) rows[i] = forward.Rows(i);
  int num_different = 0;
  for (int64_t i = 19; i >= 0; --i) {
    REQUIRE(backward.Rows(i) == rows[i]);
    num_different += other_seed.Rows(i) != rows[i] ? 1 : 0;
  }
  CHECK(num_different > 10);
}

}  // namespace
}  // namespace rollcall::coordinator
