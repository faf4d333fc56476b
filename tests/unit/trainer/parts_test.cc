#include <set>
#include <string>

#include "services/base/runtime/random.h"
#include "services/common/config/method_parts.h"
#include "tests/support/catch_torch.h"
#include "tests/unit/trainer/golden.h"
#include "trainer/advantage/registry.h"
#include "trainer/batch/aggregation.h"
#include "trainer/correction/correction.h"
#include "trainer/learner/method.h"
#include "trainer/loss/kl.h"
#include "trainer/loss/registry.h"
#include "trainer/pairs/as_given.h"
#include "trainer/pairs/best_worst.h"
#include "trainer/pairs/pair_builder.h"

namespace rollcall {
namespace {

std::set<std::string> Names(std::span<const MethodPart> parts) {
  std::set<std::string> names;
  for (const MethodPart& part : parts) names.emplace(part.name);
  return names;
}

template <typename Part>
std::set<std::string> Registered(std::span<const Part> parts) {
  std::set<std::string> names;
  for (const Part& part : parts) names.emplace(part.name);
  return names;
}

TEST_CASE("Registries: the names that job files may use are the names there are",
          "[unit][trainer][torch]") {
  CHECK(Registered(AdvantageParts()) == Names(Advantages()));
  CHECK(Registered(ObjectiveParts()) == Names(Losses()));
  CHECK(Registered(CorrectionParts()) == Names(Corrections()));
  CHECK(Registered(PairBuilderParts()) == Names(PairBuilders()));
  CHECK(Registered(KlEstimatorParts()) == Names(KlEstimators()));
  const std::vector<std::string_view> aggregations = AggregationNames();
  CHECK(std::set<std::string>(aggregations.begin(), aggregations.end()) == Names(Aggregations()));
}

TEST_CASE("Registries: needs agree with the table", "[unit][trainer][torch]") {
  for (const AdvantageEstimator& part : AdvantageParts()) {
    CHECK(part.needs_critic == ((FindPart(Advantages(), part.name)->needs & kNeedsCritic) != 0));
  }
  for (const Objective& part : ObjectiveParts()) {
    const unsigned needs = FindPart(Losses(), part.name)->needs;
    CHECK(part.needs_reference == ((needs & kNeedsReference) != 0));
    CHECK((part.pair_loss != nullptr) == ((needs & kNeedsPairs) != 0));
    CHECK((part.pair_loss == nullptr) != (part.token_loss == nullptr));
  }
}

TEST_CASE("Registries: an unknown name is refused with the names there are",
          "[unit][trainer][torch]") {
  const Status status = FindObjective("ppo").status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK_THAT(Message(status),
             Catch::Contains("algorithm.loss 'ppo'") && Catch::Contains("ppo_clip"));
}

TEST_CASE("Method: parts that do not go together are refused", "[unit][trainer][torch]") {
  const AlgorithmOptions dpo = {
      .loss = "dpo", .aggregation = "item_mean", .pair_builder = "as_given"};
  REQUIRE_OK_AND_ASSIGN(const Method method, ResolveMethod(dpo));
  CHECK(method.over_pairs());
  CHECK(method.needs_reference());

  AlgorithmOptions bad = dpo;
  bad.pair_builder = "none";
  CHECK(ResolveMethod(bad).status().code() == StatusCode::kInvalidArgument);
  bad = dpo;
  bad.aggregation = "token_mean";
  CHECK(ResolveMethod(bad).status().code() == StatusCode::kInvalidArgument);
  CHECK(ResolveMethod({.loss = "nll", .aggregation = "item_mean"}).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(ResolveMethod({.loss = "nll", .pair_builder = "best_worst"}).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("Method: a KL coefficient of zero needs no reference", "[unit][trainer][torch]") {
  REQUIRE_OK_AND_ASSIGN(const Method without, ResolveMethod({.loss = "reinforce",
                                                             .kl_placement = KlPlacement::kLoss,
                                                             .kl_estimator = "k3",
                                                             .kl_coefficient = 0}));
  CHECK_FALSE(without.needs_reference());
  CHECK(without.kl_placement == KlPlacement::kNone);
}

TEST_CASE("Corrections: the worked weights", "[unit][trainer][torch]") {
  const nlohmann::json c = testing::GoldenCase("policy_gradient.json", "importance-weights");
  const nlohmann::json& mask = c["inputs"]["mask"];
  std::vector<double> log_ratios = testing::Flat(c["inputs"]["logp_prox"], mask);
  const std::vector<double> behavior = testing::Flat(c["inputs"]["logp_behaviour"], mask);
  for (size_t t = 0; t < behavior.size(); ++t) log_ratios[t] -= behavior[t];
  const double cap = c["params"]["cap"];
  std::vector<double> weights(behavior.size());
  CHECK(FindCorrection("token_truncate")->weigh(cap, log_ratios, weights) == 2);
  testing::RequireClose(weights, testing::Flat(c["expected"]["token_truncated"], mask));
  CHECK(FindCorrection("token_mask")->weigh(cap, log_ratios, weights) == 2);
  testing::RequireClose(weights, testing::Flat(c["expected"]["token_masked"], mask));
}

// --- Pairs ----------------------------------------------------------------------------------

TrainSequence Row(std::vector<int32_t> completion, std::optional<double> reward, int32_t rank) {
  TrainSequence row;
  row.token_ids = {1};
  row.trains = {0};
  for (const int32_t id : completion) {
    row.token_ids.push_back(id);
    row.trains.push_back(1);
  }
  row.reward = reward;
  row.preference_rank = rank;
  return row;
}

TEST_CASE("as_given: rank 0 against every other ranked row, in any order",
          "[unit][trainer][torch]") {
  TrainGroup group;
  group.sequences = {Row({5}, {}, 1), Row({6}, {}, 0), Row({7}, {}, 2), Row({8}, {}, -1)};
  const PairSet set = BuildPairsAsGiven(group);
  REQUIRE(set.pairs.size() == 2);
  CHECK(set.pairs[0].chosen == 1);
  CHECK(set.pairs[0].rejected == 0);
  CHECK(set.pairs[1].rejected == 2);
}

TEST_CASE("as_given: a lone, an equal and an empty side make no pair and are counted",
          "[unit][trainer][torch]") {
  TrainGroup lone;
  lone.sequences = {Row({5}, {}, 0)};
  CHECK(BuildPairsAsGiven(lone).unpaired == 1);
  TrainGroup equal;
  equal.sequences = {Row({5}, {}, 0), Row({5}, {}, 1)};
  CHECK(BuildPairsAsGiven(equal).duplicates == 1);
  TrainGroup empty;
  empty.sequences = {Row({5}, {}, 0), Row({}, {}, 1)};
  const PairSet set = BuildPairsAsGiven(empty);
  CHECK(set.empty == 1);
  CHECK(set.pairs.empty());
}

TEST_CASE("best_worst: the first best and the first worst", "[unit][trainer][torch]") {
  TrainGroup group;
  group.sequences = {Row({5}, 0.5, -1), Row({6}, 1.0, -1), Row({7}, 0.0, -1),
                     Row({8}, 1.0, -1), Row({9}, 0.0, -1), Row({10}, std::nullopt, -1)};
  const PairSet set = BuildBestWorstPair(group);
  REQUIRE(set.pairs.size() == 1);
  CHECK(set.pairs[0].chosen == 1);
  CHECK(set.pairs[0].rejected == 2);
}

TEST_CASE("best_worst: a tie is dropped and counted, never resolved", "[unit][trainer][torch]") {
  TrainGroup group;
  group.sequences = {Row({5}, 1.0, -1), Row({6}, 1.0, -1)};
  const PairSet set = BuildBestWorstPair(group);
  CHECK(set.pairs.empty());
  CHECK(set.ties == 1);
  group.sequences[1].reward.reset();
  CHECK(BuildBestWorstPair(group).unpaired == 1);
}

}  // namespace
}  // namespace rollcall
