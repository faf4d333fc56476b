#include <cmath>
#include <functional>

#include <ATen/ops/add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "tests/support/catch_torch.h"
#include "tests/unit/trainer/golden.h"
#include "trainer/advantage/gae.h"
#include "trainer/advantage/group_mean.h"
#include "trainer/advantage/group_norm.h"
#include "trainer/advantage/leave_one_out.h"
#include "trainer/advantage/whiten.h"
#include "trainer/batch/aggregation.h"
#include "trainer/correction/correction.h"
#include "trainer/learner/host_vector.h"
#include "trainer/loss/dpo.h"
#include "trainer/loss/kl.h"
#include "trainer/loss/nll.h"
#include "trainer/loss/ppo_clip.h"
#include "trainer/loss/registry.h"
#include "trainer/loss/reinforce.h"
#include "trainer/loss/value.h"

namespace rollcall {
namespace {

using nlohmann::json;
using testing::Flat;
using testing::GoldenCase;
using testing::Numbers;
using testing::RequireClose;
using testing::Starts;

constexpr const char* kCases = "policy_gradient.json";

at::Tensor Leaf(const std::vector<double>& values) {
  return ToTensor(values).set_requires_grad(true);
}

std::vector<double> Gradient(const at::Tensor& leaf) {
  return leaf.grad().defined() ? ToVector(leaf.grad()) : std::vector<double>(leaf.numel(), 0.0);
}

// 1 / denominator of every token, as the learner computes it.
at::Tensor Shares(const std::string& aggregation, const std::vector<int64_t>& starts,
                  double constant = 1) {
  GlobalCounts counts;
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const auto n = static_cast<double>(starts[s + 1] - starts[s]);
    counts.tokens += n;
    counts.sequences += n > 0;
  }
  std::vector<double> shares;
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const int64_t n = starts[s + 1] - starts[s];
    shares.insert(shares.end(), n,
                  TokenWeight(*ParseAggregation(aggregation), counts, n, constant));
  }
  return ToTensor(shares);
}

struct LossAndGradient {
  double loss = 0;
  std::vector<double> gradient;
};

struct Batch {
  std::vector<int64_t> starts;
  std::vector<double> logp;
  std::vector<double> prox;
  std::vector<double> ref;
  std::vector<double> advantages;
  std::vector<double> weights;
};

Batch BatchOf(const json& inputs) {
  const json& mask = inputs["mask"];
  Batch batch;
  batch.starts = Starts(mask);
  batch.logp = Flat(inputs["logp"], mask);
  batch.prox = Flat(inputs["logp_prox"], mask);
  if (inputs.contains("logp_ref")) batch.ref = Flat(inputs["logp_ref"], mask);
  if (inputs.contains("advantages")) batch.advantages = Flat(inputs["advantages"], mask);
  batch.weights.assign(batch.logp.size(), 1.0);
  return batch;
}

std::vector<double> Broadcast(const std::vector<double>& per_sequence,
                              const std::vector<int64_t>& starts) {
  std::vector<double> tokens;
  for (size_t s = 0; s < per_sequence.size(); ++s) {
    tokens.insert(tokens.end(), starts[s + 1] - starts[s], per_sequence[s]);
  }
  return tokens;
}

LossAndGradient Evaluate(TokenLossFn loss_fn, const ObjectiveOptions& options, const Batch& batch,
                         const at::Tensor& shares, const std::string& kl = "",
                         double kl_coefficient = 0) {
  const at::Tensor logp = Leaf(batch.logp);
  const ObjectiveResult result = loss_fn(options, {.logprobs_T = logp,
                                                   .prox_logprobs_T = ToTensor(batch.prox),
                                                   .advantages_T = ToTensor(batch.advantages)});
  at::Tensor loss = at::sum(at::mul(at::mul(result.losses, ToTensor(batch.weights)), shares));
  if (!kl.empty()) {
    const at::Tensor terms = FindKlEstimator(kl)->loss(at::sub(logp, ToTensor(batch.ref)));
    loss = at::add(loss, at::mul(at::sum(at::mul(terms, shares)), kl_coefficient));
  }
  loss.backward();
  return {loss.item<double>(), Gradient(logp)};
}

void RequireCase(const LossAndGradient& got, const json& want, const json& mask) {
  RequireClose({got.loss}, {want["loss"].get<double>()});
  RequireClose(got.gradient, Flat(want["grad_logp"], mask));
}

AdvantageResult GroupAdvantages(AdvantageFn estimate, const std::vector<double>& rewards,
                                const json& inputs, const std::vector<int64_t>& starts) {
  const std::vector<int64_t> groups = inputs["group_ids"];
  const std::vector<uint8_t> scored(rewards.size(), 1);
  return estimate({}, {.token_starts = starts,
                       .groups_S = groups,
                       .rewards_S = rewards,
                       .has_reward_S = scored,
                       .token_rewards_T = {},
                       .values_T = {},
                       .bootstrap_S = {}});
}

TEST_CASE("KL estimators: values and loss gradients", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "kl-estimators");
  const json& mask = c["inputs"]["mask"];
  const std::vector<double> logp = Flat(c["inputs"]["logp"], mask);
  const std::vector<double> ref = Flat(c["inputs"]["logp_ref"], mask);
  const at::Tensor shares = Shares("token_mean", Starts(mask));
  for (const KlEstimator& estimator : KlEstimatorParts()) {
    const json& want = c["expected"][std::string(estimator.name)];
    const at::Tensor leaf = Leaf(logp);
    const at::Tensor per_token = estimator.loss(at::sub(leaf, ToTensor(ref)));
    RequireClose(ToVector(per_token), Flat(want["per_token"], mask));
    std::vector<double> host;
    for (size_t t = 0; t < logp.size(); ++t) host.push_back(estimator.value(logp[t] - ref[t]));
    RequireClose(host, Flat(want["per_token"], mask));
    const at::Tensor mean = at::sum(at::mul(per_token, shares));
    RequireClose({mean.item<double>()}, {want["token_mean"].get<double>()});
    mean.backward();
    RequireClose(Gradient(leaf), Flat(want["grad_logp"], mask));
  }
}

TEST_CASE("KL estimators: far apart policies stay finite", "[unit][trainer][torch]") {
  for (const KlEstimator& estimator : KlEstimatorParts()) {
    for (const double difference : {-1e4, 1e4}) {
      CHECK(std::isfinite(estimator.value(difference)));
      const at::Tensor leaf = Leaf({difference});
      at::sum(estimator.loss(leaf)).backward();
      CHECK(Gradient(leaf) == std::vector<double>{0.0});
    }
  }
}

TEST_CASE("ppo_clip: four aggregations of the worked case", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "aggregation-modes");
  const Batch batch = BatchOf(c["inputs"]);
  for (const auto& [name, want] : c["expected"].items()) {
    INFO(name);
    RequireCase(Evaluate(PpoClipLoss, {.clip_low = 0.2, .clip_high = 0.2}, batch,
                         Shares(name, batch.starts, c["params"]["const"])),
                want, c["inputs"]["mask"]);
  }
}

TEST_CASE("Aggregation: shards divided by global counts add up to the whole",
          "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "aggregation-sharded");
  const Batch whole = BatchOf(c["inputs"]);
  for (const auto& [name, want] : c["expected"].items()) {
    const std::vector<double> shares = ToVector(Shares(name, whole.starts));
    for (size_t shard = 0; shard < 2; ++shard) {
      Batch part;
      std::vector<double> part_shares;
      for (const int64_t s : c["inputs"]["shards"][shard].get<std::vector<int64_t>>()) {
        for (int64_t t = whole.starts[s]; t < whole.starts[s + 1]; ++t) {
          part.logp.push_back(whole.logp[t]);
          part.prox.push_back(whole.prox[t]);
          part.advantages.push_back(whole.advantages[t]);
          part.weights.push_back(1.0);
          part_shares.push_back(shares[t]);
        }
      }
      const LossAndGradient got = Evaluate(PpoClipLoss, {}, part, ToTensor(part_shares));
      RequireClose({got.loss}, {want["shard_contributions"][shard].get<double>()});
    }
  }
}

TEST_CASE("Aggregation: empty sequences count nowhere, a masked batch gives zero",
          "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "edge-empty-truncated");
  const json& mask = c["inputs"]["mask"];
  const Batch batch = BatchOf(c["inputs"]);
  for (const char* name : {"token_mean", "seq_mean_token_mean"}) {
    RequireCase(Evaluate(PpoClipLoss, {}, batch, Shares(name, batch.starts)), c["expected"][name],
                mask);
  }
  const GlobalCounts nothing;
  for (const std::string_view name : AggregationNames()) {
    CHECK(TokenWeight(*ParseAggregation(name), nothing, 0, 8) == 0);
  }
}

TEST_CASE("Corrections: decoupled PPO, value and gradient", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "decoupled-ppo");
  const json& mask = c["inputs"]["mask"];
  Batch batch = BatchOf(c["inputs"]);
  const std::vector<double> behavior = Flat(c["inputs"]["logp_behaviour"], mask);
  const at::Tensor shares = Shares("token_mean", batch.starts);
  const double cap = c["params"]["cap"];
  const auto weigh = [&](const char* name, const std::vector<double>& from) {
    std::vector<double> log_ratios;
    for (size_t t = 0; t < from.size(); ++t) log_ratios.push_back(from[t] - behavior[t]);
    FindCorrection(name)->weigh(cap, log_ratios, batch.weights);
  };
  weigh("token_truncate", batch.prox);
  RequireCase(Evaluate(PpoClipLoss, {}, batch, shares), c["expected"]["truncate"], mask);
  weigh("token_mask", batch.prox);
  RequireCase(Evaluate(PpoClipLoss, {}, batch, shares), c["expected"]["mask_keep_denominator"],
              mask);
  // Truncated importance sampling of the current policy: prox is the policy itself.
  weigh("token_truncate", batch.logp);
  RequireCase(Evaluate(ReinforceLoss, {}, batch, shares), c["expected"]["tis_policy_gradient"],
              mask);
}

TEST_CASE("Corrections: on-policy data is left alone", "[unit][trainer][torch]") {
  const std::vector<double> on_policy(5, 0.0);
  for (const Correction& correction : CorrectionParts()) {
    std::vector<double> weights(5, -1.0);
    CHECK(correction.weigh(2.0, on_policy, weights) == 0);
    CHECK(weights == std::vector<double>(5, 1.0));
  }
}

TEST_CASE("Value loss: clipped and not, with gradient", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "value-loss");
  const json& mask = c["inputs"]["mask"];
  const at::Tensor shares = Shares("token_mean", Starts(mask));
  for (const auto& [name, clip] : {std::pair<std::string, double>{"clipped", c["params"]["clip"]},
                                   std::pair<std::string, double>{"unclipped", 0.0}}) {
    const at::Tensor values = Leaf(Flat(c["inputs"]["values_new"], mask));
    const at::Tensor loss = at::sum(
        at::mul(ValueLoss(clip, {.values_T = values,
                                 .old_values_T = ToTensor(Flat(c["inputs"]["values_old"], mask)),
                                 .returns_T = ToTensor(Flat(c["inputs"]["returns"], mask))}),
                shares));
    loss.backward();
    RequireClose({loss.item<double>()}, {c["expected"][name]["loss"].get<double>()});
    RequireClose(Gradient(values), Flat(c["expected"][name]["grad_values"], mask));
  }
}

TEST_CASE("PPO: rewards with KL, GAE, whitening, clip", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "ppo");
  const json& mask = c["inputs"]["mask"];
  Batch batch = BatchOf(c["inputs"]);
  const std::vector<double> rewards = Numbers(c["inputs"]["rewards"]);
  const std::vector<int64_t> groups = {0, 1, 2, 3};
  const std::vector<uint8_t> keep(4, 1);
  const std::vector<double> bootstrap(4, 0.0);
  const std::vector<double> values = Flat(c["inputs"]["values_old"], mask);
  std::vector<double> token_rewards(batch.logp.size());
  for (size_t t = 0; t < token_rewards.size(); ++t) {
    token_rewards[t] = -c["params"]["kl_coef"].get<double>() * KlK1(batch.prox[t] - batch.ref[t]);
  }
  for (size_t s = 0; s < 4; ++s) token_rewards[batch.starts[s + 1] - 1] += rewards[s];
  RequireClose(token_rewards, Flat(c["expected"]["token_rewards"], mask));
  AdvantageResult advantages =
      GaeAdvantages({.gamma = 1.0, .lambda = 0.95}, {.token_starts = batch.starts,
                                                     .groups_S = groups,
                                                     .rewards_S = rewards,
                                                     .has_reward_S = keep,
                                                     .token_rewards_T = token_rewards,
                                                     .values_T = values,
                                                     .bootstrap_S = bootstrap});
  REQUIRE_OK_AND_ASSIGN(const Moments moments,
                        GlobalMoments(batch.starts, keep, advantages.advantages_T,
                                      [](std::span<double>) { return OkStatus(); }));
  Whiten(moments, batch.starts, keep, 1e-8, advantages.advantages_T);
  RequireClose(advantages.advantages_T, Flat(c["expected"]["advantages_whitened"], mask));
  batch.advantages = advantages.advantages_T;
  const LossAndGradient got = Evaluate(PpoClipLoss, {}, batch, Shares("token_mean", batch.starts));
  RequireClose({got.loss}, {c["expected"]["policy_loss"].get<double>()});
  RequireClose(got.gradient, Flat(c["expected"]["grad_logp"], mask));
}

TEST_CASE("GRPO: the paper's form and the token mean", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "grpo");
  const json& mask = c["inputs"]["mask"];
  Batch batch = BatchOf(c["inputs"]);
  batch.advantages = GroupAdvantages(GroupNormAdvantages, Numbers(c["inputs"]["rewards"]),
                                     c["inputs"], batch.starts)
                         .advantages_T;
  RequireClose(batch.advantages, Broadcast(Numbers(c["expected"]["advantages"]), batch.starts));
  const double beta = c["params"]["beta"];
  RequireCase(
      Evaluate(PpoClipLoss, {}, batch, Shares("seq_mean_token_mean", batch.starts), "k3", beta),
      c["expected"]["paper"], mask);
  RequireCase(Evaluate(PpoClipLoss, {}, batch, Shares("token_mean", batch.starts), "k3", beta),
              c["expected"]["token_mean_variant"], mask);
}

TEST_CASE("Dr.GRPO: no standard deviation, constant denominator", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "dr-grpo");
  Batch batch = BatchOf(c["inputs"]);
  batch.advantages = GroupAdvantages(GroupMeanAdvantages, Numbers(c["inputs"]["rewards"]),
                                     c["inputs"], batch.starts)
                         .advantages_T;
  RequireCase(Evaluate(PpoClipLoss, {}, batch,
                       Shares("seq_mean_token_sum_const", batch.starts, c["params"]["const"])),
              c["expected"]["with_const"], c["inputs"]["mask"]);
  RequireCase(Evaluate(PpoClipLoss, {}, batch, Shares("seq_mean_token_sum", batch.starts)),
              c["expected"]["paper_no_const"], c["inputs"]["mask"]);
}

TEST_CASE("DAPO: asymmetric clip", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "dapo-bytedance");
  Batch batch = BatchOf(c["inputs"]);
  batch.advantages = Broadcast(Numbers(c["expected"]["advantages"]), batch.starts);
  RequireCase(Evaluate(PpoClipLoss, {.clip_low = 0.2, .clip_high = 0.28}, batch,
                       Shares("token_mean", batch.starts)),
              c["expected"], c["inputs"]["mask"]);
}

TEST_CASE("RLOO: KL in the reward before the baseline", "[unit][trainer][torch]") {
  const json c = GoldenCase(kCases, "rloo");
  Batch batch = BatchOf(c["inputs"]);
  std::vector<double> rewards = Numbers(c["inputs"]["rewards"]);
  for (size_t s = 0; s < rewards.size(); ++s) {
    for (int64_t t = batch.starts[s]; t < batch.starts[s + 1]; ++t) {
      rewards[s] -= c["params"]["beta"].get<double>() * KlK1(batch.prox[t] - batch.ref[t]);
    }
  }
  RequireClose(rewards, Numbers(c["expected"]["rewards_with_kl"]));
  batch.advantages =
      GroupAdvantages(LeaveOneOutAdvantages, rewards, c["inputs"], batch.starts).advantages_T;
  RequireCase(Evaluate(ReinforceLoss, {}, batch, Shares("seq_mean_token_sum", batch.starts)),
              c["expected"]["reinforce"], c["inputs"]["mask"]);
}

TEST_CASE("ppo_clip: at ratio 1 it is REINFORCE and nothing is clipped", "[unit][trainer][torch]") {
  CounterRandom random(3);
  Batch batch;
  batch.starts = {0, 4, 9};
  for (int t = 0; t < 9; ++t) {
    batch.logp.push_back(-2.0 * random.Uniform());
    batch.advantages.push_back(random.Normal());
    batch.weights.push_back(1.0);
  }
  batch.prox = batch.logp;
  const at::Tensor shares = Shares("token_mean", batch.starts);
  const LossAndGradient clip = Evaluate(PpoClipLoss, {}, batch, shares);
  const LossAndGradient plain = Evaluate(ReinforceLoss, {}, batch, shares);
  RequireClose(clip.gradient, plain.gradient, 1e-12);
  const ObjectiveResult result =
      PpoClipLoss({}, {ToTensor(batch.logp), ToTensor(batch.prox), ToTensor(batch.advantages)});
  CHECK(result.sums == std::vector<double>{9.0, 0.0, 0.0});
}

TEST_CASE("ppo_clip: clip fractions count the tokens whose gradient is cut",
          "[unit][trainer][torch]") {
  const std::vector<double> logp = {std::log(1.5), std::log(1.5), std::log(0.5), std::log(0.5)};
  const std::vector<double> advantages = {1.0, -1.0, 1.0, -1.0};
  const at::Tensor leaf = Leaf(logp);
  const ObjectiveResult result =
      PpoClipLoss({}, {leaf, ToTensor(std::vector<double>(4, 0.0)), ToTensor(advantages)});
  RequireClose(result.sums, {4.0, 1.0, 1.0}, 1e-12);
  at::sum(result.losses).backward();
  const std::vector<double> gradient = Gradient(leaf);
  CHECK(gradient[0] == 0);
  CHECK(gradient[1] != 0);
  CHECK(gradient[2] != 0);
  CHECK(gradient[3] == 0);
}

TEST_CASE("Token objectives: gradients agree with central differences", "[unit][trainer][torch]") {
  const TokenLossFn loss_fn = GENERATE(&NllLoss, &ReinforceLoss, &PpoClipLoss);
  CounterRandom random(11);
  std::vector<double> logp;
  std::vector<double> prox;
  std::vector<double> advantages;
  for (int t = 0; t < 12; ++t) {
    logp.push_back(-1.0 - random.Uniform());
    prox.push_back(logp.back() + 0.6 * (random.Uniform() - 0.5));
    advantages.push_back(random.Normal());
  }
  const auto total = [&](const std::vector<double>& at_logp) {
    return at::sum(loss_fn({}, {ToTensor(at_logp), ToTensor(prox), ToTensor(advantages)}).losses)
        .item<double>();
  };
  const at::Tensor leaf = Leaf(logp);
  at::sum(loss_fn({}, {leaf, ToTensor(prox), ToTensor(advantages)}).losses).backward();
  std::vector<double> numeric;
  constexpr double kStep = 1e-6;
  for (size_t t = 0; t < logp.size(); ++t) {
    std::vector<double> up = logp;
    std::vector<double> down = logp;
    up[t] += kStep;
    down[t] -= kStep;
    numeric.push_back((total(up) - total(down)) / (2 * kStep));
  }
  RequireClose(Gradient(leaf), numeric, 1e-6);
}

TEST_CASE("DPO: worked cases, ties and extremes", "[unit][trainer][torch]") {
  const std::string id = GENERATE("dpo.sigmoid", "dpo.tie", "dpo.extreme", "cdpo");
  const json c = GoldenCase("preference.json", id);
  const json& in = c["inputs"];
  const auto difference = [&](const char* policy, const char* reference) {
    std::vector<double> values = Numbers(in[policy]);
    const std::vector<double> ref = Numbers(in[reference]);
    for (size_t p = 0; p < values.size(); ++p) values[p] -= ref[p];
    return values;
  };
  const at::Tensor chosen = Leaf(difference("policy_chosen_logps", "ref_chosen_logps"));
  const at::Tensor rejected = Leaf(difference("policy_rejected_logps", "ref_rejected_logps"));
  const ObjectiveResult result =
      DpoLoss({.beta = c["params"]["beta"], .label_smoothing = c["params"].value("epsilon", 0.0)},
              {chosen, rejected});
  const json& want = c["expected"];
  RequireClose(ToVector(result.losses), Numbers(want["per_example"]), 1e-5);
  const auto n = static_cast<double>(chosen.numel());
  const at::Tensor mean = at::mul(at::sum(result.losses), 1.0 / n);
  RequireClose({mean.item<double>()}, {want["loss"].get<double>()}, 1e-5);
  mean.backward();
  if (want.contains("grad_policy_chosen_logps")) {
    RequireClose(Gradient(chosen), Numbers(want["grad_policy_chosen_logps"]), 1e-5);
    RequireClose(Gradient(rejected), Numbers(want["grad_policy_rejected_logps"]), 1e-5);
  }
  if (want.contains("reward_margin_mean")) {
    CHECK(result.sums[2] / n == Approx(want["reward_margin_mean"].get<double>()));
  }
  if (want.contains("reward_accuracy")) {
    CHECK(result.sums[3] / n == Approx(want["reward_accuracy"].get<double>()));
  }
  if (want.contains("reward_tie_fraction")) {
    CHECK(result.sums[4] / n == Approx(want["reward_tie_fraction"].get<double>()));
  }
}

}  // namespace
}  // namespace rollcall
