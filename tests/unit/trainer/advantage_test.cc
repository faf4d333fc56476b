#include <optional>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/unit/trainer/golden.h"
#include "trainer/advantage/gae.h"
#include "trainer/advantage/group_mean.h"
#include "trainer/advantage/group_norm.h"
#include "trainer/advantage/leave_one_out.h"
#include "trainer/advantage/none.h"
#include "trainer/advantage/registry.h"
#include "trainer/advantage/return_to_go.h"
#include "trainer/advantage/whiten.h"

namespace rollcall {
namespace {

using nlohmann::json;
using testing::Flat;
using testing::GoldenCase;
using testing::Numbers;
using testing::RequireClose;
using testing::Starts;

constexpr const char* kCases = "policy_gradient.json";

// An input that owns what it points to.
struct Owned {
  std::vector<int64_t> starts;
  std::vector<int64_t> groups;
  std::vector<double> rewards;
  std::vector<uint8_t> scored;
  std::vector<double> token_rewards;
  std::vector<double> values;
  std::vector<double> bootstrap;

  AdvantageInput View() {
    const size_t s = starts.size() - 1;
    groups.resize(s, 0);
    rewards.resize(s, 0.0);
    scored.resize(s, 1);
    bootstrap.resize(s, 0.0);
    token_rewards.resize(starts.back(), 0.0);
    values.resize(starts.back(), 0.0);
    return {starts, groups, rewards, scored, token_rewards, values, bootstrap};
  }
};

// One token per sequence.
Owned Groups(std::vector<double> rewards, std::vector<int64_t> groups) {
  Owned owned;
  for (size_t s = 0; s <= rewards.size(); ++s) owned.starts.push_back(static_cast<int64_t>(s));
  owned.rewards = std::move(rewards);
  owned.groups = std::move(groups);
  return owned;
}

Status NoRanks(std::span<double>) { return OkStatus(); }

TEST_CASE("GAE: the worked cases, with gaps and bootstrap", "[unit][trainer]") {
  const std::string id = GENERATE("gae-1", "gae-observation-gap", "gae-truncated-bootstrap");
  const json c = GoldenCase(kCases, id);
  const json& mask = c["inputs"]["mask"];
  Owned owned;
  owned.starts = Starts(mask);
  owned.token_rewards = Flat(c["inputs"]["token_rewards"], mask);
  owned.values = Flat(c["inputs"]["values"], mask);
  if (c["inputs"].contains("bootstrap_value")) {
    owned.bootstrap = Numbers(c["inputs"]["bootstrap_value"]);
  }
  const AdvantageResult result =
      GaeAdvantages({.gamma = c["params"]["gamma"], .lambda = c["params"]["lam"]}, owned.View());
  RequireClose(result.advantages_T, Flat(c["expected"]["advantages"], mask));
  RequireClose(result.returns_T, Flat(c["expected"]["returns"], mask));
}

TEST_CASE("GAE: lambda 1 is return to go minus value", "[unit][trainer]") {
  Owned owned;
  owned.starts = {0, 3, 3, 7};
  CounterRandom random(7);
  for (int t = 0; t < 7; ++t) {
    owned.token_rewards.push_back(random.Normal());
    owned.values.push_back(random.Normal());
  }
  const AdvantageInput input = owned.View();
  const AdvantageResult gae = GaeAdvantages({.gamma = 0.9, .lambda = 1.0}, input);
  const AdvantageResult rtg = ReturnToGoAdvantages({.gamma = 0.9}, input);
  RequireClose(gae.returns_T, rtg.advantages_T, 1e-12);
}

TEST_CASE("Group estimators: the worked case", "[unit][trainer]") {
  const json c = GoldenCase(kCases, "group-advantages");
  const json& want = c["expected"];
  Owned owned = Groups(Numbers(c["inputs"]["rewards"]), c["inputs"]["group_ids"]);
  const AdvantageInput input = owned.View();
  const AdvantageResult norm = GroupNormAdvantages({.epsilon = c["params"]["eps"]}, input);
  RequireClose(norm.advantages_T, Numbers(want["grpo_std_bessel"]));
  RequireClose(GroupMeanAdvantages({}, input).advantages_T, Numbers(want["mean_only"]));
  RequireClose(LeaveOneOutAdvantages({}, input).advantages_T, Numbers(want["leave_one_out"]));
  CHECK(norm.equal_groups == 1);
  CHECK(norm.single_groups == 1);
  CHECK(norm.keep_S == std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 0});
}

TEST_CASE("Group estimators: a constant added to all rewards changes nothing", "[unit][trainer]") {
  const AdvantageFn estimate =
      GENERATE(&GroupNormAdvantages, &GroupMeanAdvantages, &LeaveOneOutAdvantages);
  Owned plain = Groups({0.25, 1, 0.5, 0, 2, 3}, {0, 0, 0, 1, 1, 1});
  Owned shifted = Groups({8.25, 9, 8.5, 8, 10, 11}, {0, 0, 0, 1, 1, 1});
  RequireClose(estimate({}, plain.View()).advantages_T, estimate({}, shifted.View()).advantages_T,
               1e-12);
}

TEST_CASE("Group estimators: equal rewards give exact zeros, not noise over epsilon",
          "[unit][trainer]") {
  Owned owned = Groups({0.1, 0.1, 0.1}, {0, 0, 0});
  CHECK(GroupNormAdvantages({}, owned.View()).advantages_T == std::vector<double>{0, 0, 0});
}

TEST_CASE("Group estimators: an unscored sequence is in no statistic, an empty one is",
          "[unit][trainer]") {
  Owned owned;
  owned.starts = {0, 1, 1, 2, 3};  // the second answered nothing
  owned.rewards = {1.0, 0.0, 100.0, 0.5};
  owned.scored = {1, 1, 0, 1};
  const AdvantageResult result = GroupMeanAdvantages({}, owned.View());
  RequireClose(result.advantages_T, {0.5, 0.0, 0.0}, 1e-12);
  CHECK(result.keep_S == std::vector<uint8_t>{1, 1, 0, 1});
}

TEST_CASE("No baseline: the advantage is the reward", "[unit][trainer]") {
  Owned owned = Groups({2.0, -1.0}, {0, 1});
  owned.scored = {1, 0};
  const AdvantageResult result = NoAdvantages({}, owned.View());
  CHECK(result.advantages_T == std::vector<double>{2.0, 0.0});
  CHECK(result.keep_S == std::vector<uint8_t>{1, 1});
}

TEST_CASE("Return to go: the returns of REINFORCE++", "[unit][trainer]") {
  const json c = GoldenCase(kCases, "reinforce-plus-plus");
  const json& mask = c["inputs"]["mask"];
  Owned owned;
  owned.starts = Starts(mask);
  const std::vector<double> prox = Flat(c["inputs"]["logp_prox"], mask);
  const std::vector<double> ref = Flat(c["inputs"]["logp_ref"], mask);
  for (size_t t = 0; t < prox.size(); ++t) {
    owned.token_rewards.push_back(-c["params"]["kl_coef"].get<double>() * (prox[t] - ref[t]));
  }
  for (size_t s = 0; s + 1 < owned.starts.size(); ++s) {
    owned.token_rewards[owned.starts[s + 1] - 1] += c["inputs"]["rewards"][s].get<double>();
  }
  const AdvantageResult result = ReturnToGoAdvantages({.gamma = 1.0}, owned.View());
  RequireClose(result.advantages_T, Flat(c["expected"]["returns"], mask));
}

TEST_CASE("Whitening: Bessel variance of the worked case", "[unit][trainer]") {
  const json c = GoldenCase(kCases, "whiten");
  const json& mask = c["inputs"]["mask"];
  const std::vector<int64_t> starts = Starts(mask);
  const std::vector<uint8_t> keep(starts.size() - 1, 1);
  std::vector<double> x = Flat(c["inputs"]["x"], mask);
  REQUIRE_OK_AND_ASSIGN(const Moments moments, GlobalMoments(starts, keep, x, NoRanks));
  CHECK(moments.mean == Approx(c["expected"]["mean"].get<double>()).epsilon(1e-7));
  CHECK(moments.variance == Approx(c["expected"]["var_bessel"].get<double>()).epsilon(1e-7));
  Whiten(moments, starts, keep, c["params"]["eps"], x);
  RequireClose(x, Flat(c["expected"]["bessel"], mask));
}

TEST_CASE("Whitening: fewer than two tokens stay, dropped sequences count nowhere",
          "[unit][trainer]") {
  const std::vector<int64_t> starts = {0, 1, 3};
  const std::vector<uint8_t> keep = {1, 0};
  std::vector<double> x = {3.0, 100.0, 200.0};
  REQUIRE_OK_AND_ASSIGN(const Moments moments, GlobalMoments(starts, keep, x, NoRanks));
  CHECK(moments.count == 1);
  Whiten(moments, starts, keep, 1e-8, x);
  CHECK(x == std::vector<double>{3.0, 100.0, 200.0});
}

TEST_CASE("Whitening: a failed sum over ranks is passed on", "[unit][trainer]") {
  const std::vector<int64_t> starts = {0, 1};
  const std::vector<uint8_t> keep = {1};
  const std::vector<double> x = {1.0};
  const auto result =
      GlobalMoments(starts, keep, x, [](std::span<double>) { return Unavailable("peer is gone"); });
  CHECK(result.status().code() == StatusCode::kUnavailable);
}

}  // namespace
}  // namespace rollcall
