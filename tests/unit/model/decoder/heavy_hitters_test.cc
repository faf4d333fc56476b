#include "services/model/decoder/heavy_hitters.h"

#include <algorithm>
#include <map>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

// One head whose raw attention weights are given row by row; kept ones are renormalised.
struct Head {
  Head(const HeavyHitterOptions& head_options, int32_t prompt)
      : options(head_options), state(head_options, 1, 1, prompt) {}

  // The token at `position` attends to what is kept.
  void Step(int32_t position, const std::vector<float>& raw) {
    state.SlotOf(0, 0, position);
    const int32_t used = state.NumSlots(position + 1);
    float sum = 0;
    for (int32_t slot = 0; slot < used; ++slot) {
      sum += raw[static_cast<size_t>(state.position(0, 0, slot))];
    }
    for (int32_t slot = 0; slot < used; ++slot) {
      state.scores(0, 0)[slot] += raw[static_cast<size_t>(state.position(0, 0, slot))] / sum;
    }
    state.Evict(0, 0, position);
    last = position;
  }
  // Scores of what is kept after the eviction, by position.
  std::map<int32_t, float> Kept() {
    std::map<int32_t, float> kept;
    const int32_t used = state.NumSlots(last + 1);
    HeavyHitters copy = state;
    const int32_t free_slot = copy.SlotOf(0, 0, last + 1);
    for (int32_t slot = 0; slot < used; ++slot) {
      if (slot != free_slot) kept[state.position(0, 0, slot)] = state.scores(0, 0)[slot];
    }
    return kept;
  }
  HeavyHitterOptions options;
  HeavyHitters state;
  int32_t last = -1;
};

}  // namespace

TEST_CASE("HeavyHitters: the trace worked by hand", "[unit][decoder]") {
  const std::vector<std::vector<float>> rows = {
      {1}, {.7F, .3F}, {.5F, .1F, .4F}, {.1F, .5F, .1F, .3F}, {.2F, .2F, .2F, .2F, .2F}};
  Head head({.num_heavy = 1, .num_recent = 2}, 1);
  for (int32_t t = 0; t < 3; ++t) head.Step(t, rows[static_cast<size_t>(t)]);
  std::map<int32_t, float> kept = head.Kept();
  REQUIRE(kept.size() == 3);
  CHECK(kept.at(0) == Approx(2.2));
  CHECK(kept.at(1) == Approx(0.4));
  CHECK(kept.at(2) == Approx(0.4));
  head.Step(3, rows[3]);
  kept = head.Kept();
  REQUIRE(kept.size() == 3);
  CHECK(kept.at(0) == Approx(2.3));
  CHECK(kept.at(2) == Approx(0.5));
  CHECK(kept.at(3) == Approx(0.3));
  head.Step(4, rows[4]);
  kept = head.Kept();
  REQUIRE(kept.size() == 3);
  CHECK(kept.at(0) == Approx(2.55));
  CHECK(kept.at(3) == Approx(0.55));
  CHECK(kept.at(4) == Approx(0.25));
}

TEST_CASE("HeavyHitters: a prompt keeps its heaviest and its last tokens", "[unit][decoder]") {
  HeavyHitters state({.num_heavy = 2, .num_recent = 2}, 1, 2, 6);
  CHECK_FALSE(state.NeedsCompaction(5));
  CHECK(state.NeedsCompaction(6));
  CHECK(state.NumSlots(6) == 6);
  const std::vector<float> first = {3, 1, 2, 5, 9, 9};
  const std::vector<float> second = {1, 1, 1, 1, 0, 0};
  std::copy(first.begin(), first.end(), state.scores(0, 0));
  std::copy(second.begin(), second.end(), state.scores(0, 1));
  CHECK(state.CompactHead(0, 0) == std::vector<int32_t>{0, 3, 4, 5});
  CHECK(state.CompactHead(0, 1) == std::vector<int32_t>{2, 3, 4, 5});
  state.FinishCompaction();
  CHECK(state.NumSlots(6) == 5);
  CHECK(state.capacity() == 5);
  CHECK(state.scores(0, 0)[1] == 5);
  CHECK(state.position(0, 1, 0) == 2);
  CHECK(state.SlotOf(0, 0, 6) == 4);
}

TEST_CASE("HeavyHitters: agrees with a list over random attention", "[unit][decoder]") {
  CounterRandom random(5);
  for (int round = 0; round < 60; ++round) {
    const HeavyHitterOptions options{.num_heavy = 1 + static_cast<int32_t>(random.Below(6)),
                                     .num_recent = 1 + static_cast<int32_t>(random.Below(6))};
    Head head(options, 1);
    std::map<int32_t, float> list;  // position to score
    for (int32_t t = 0; t < 80; ++t) {
      std::vector<float> raw(static_cast<size_t>(t) + 1);
      for (float& weight : raw) weight = static_cast<float>(random.Uniform()) + 0.01F;
      list[t] = 0;
      head.Step(t, raw);
      float sum = 0;
      for (const auto& [position, score] : list) sum += raw[static_cast<size_t>(position)];
      for (auto& [position, score] : list) score += raw[static_cast<size_t>(position)] / sum;
      if (static_cast<int32_t>(list.size()) > options.budget()) {
        auto victim = list.end();
        for (auto it = list.begin(); it != list.end(); ++it) {
          if (it->first > t - options.num_recent) continue;
          if (victim == list.end() || it->second < victim->second) victim = it;
        }
        list.erase(victim);
      }
      const auto kept = head.Kept();
      REQUIRE(kept.size() == list.size());
      for (const auto& [position, score] : list) {
        REQUIRE(kept.count(position) == 1);
        REQUIRE(kept.at(position) == Approx(score).epsilon(1e-5));
      }
    }
  }
}

}  // namespace rollcall
