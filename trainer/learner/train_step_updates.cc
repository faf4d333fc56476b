// The updates of a step: loss and backward over micro-batches, reduction, clip, optimizer.
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/add.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/select.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "trainer/batch/minibatch.h"
#include "trainer/learner/forward.h"
#include "trainer/learner/host_vector.h"
#include "trainer/learner/train_step.h"
#include "trainer/loss/value.h"
#include "trainer/optimizer/clip.h"
#include "trainer/optimizer/schedule.h"

namespace rollcall {
namespace {

// Losses of the current update; added over ranks before they are checked.
enum UpdateLoss { kPolicyLoss, kKlLoss, kEntropyLoss, kValueLoss, kNumUpdateLosses };

}  // namespace

Status TrainStep::RunMinibatch(const Minibatch& minibatch) {
  std::array<double, kNumUpdateLosses> before = {sums_["policy_loss"], sums_["kl_loss"],
                                                 sums_["entropy_loss"], sums_["value_loss"]};
  context_.policy.ZeroGradient();
  if (context_.critic != nullptr) context_.critic->ZeroGradient();
  for (const std::vector<Unit>& microbatch :
       CutMicrobatches(minibatch.units, flat_.num_tokens_S, options_.max_tokens_per_microbatch)) {
    std::vector<int64_t> members;
    for (const Unit& unit : microbatch) members.insert(members.end(), unit.begin(), unit.end());
    const PackedTokens packed = Pack(flat_.sequences_S, members);
    if (method_.over_pairs()) {
      ROLLCALL_RETURN_IF_ERROR(AccumulatePairs(minibatch, packed));
    } else if (trains_policy()) {
      ROLLCALL_RETURN_IF_ERROR(AccumulateTokens(minibatch, packed));
    }
    if (context_.critic != nullptr) ROLLCALL_RETURN_IF_ERROR(AccumulateCritic(minibatch, packed));
    if (context_.events.progress) context_.events.progress();
  }

  timer_.Enter("reduce");
  std::array<double, kNumUpdateLosses> losses = {
      sums_["policy_loss"] - before[kPolicyLoss], sums_["kl_loss"] - before[kKlLoss],
      sums_["entropy_loss"] - before[kEntropyLoss], sums_["value_loss"] - before[kValueLoss]};
  ROLLCALL_RETURN_IF_ERROR(context_.group.Sum(losses));
  ROLLCALL_RETURN_IF_ERROR(CheckFinite("policy_loss", losses[kPolicyLoss]));
  ROLLCALL_RETURN_IF_ERROR(CheckFinite("kl_loss", losses[kKlLoss]));
  ROLLCALL_RETURN_IF_ERROR(CheckFinite("entropy_loss", losses[kEntropyLoss]));
  ROLLCALL_RETURN_IF_ERROR(CheckFinite("value_loss", losses[kValueLoss]));
  const double factor = LearningRateFactor(options_.optimizer.schedule, batch_.step);
  if (trains_policy()) {
    ROLLCALL_ASSIGN_OR_RETURN(
        const double norm,
        UpdateModel("grad_norm", options_.optimizer.learning_rate * factor, &context_.policy));
    sums_["grad_norm"] += norm;
    const double limit = options_.optimizer.max_grad_norm;
    sums_["grad_clipped"] += limit > 0 && norm > limit ? 1 : 0;
  }
  if (context_.critic != nullptr) {
    ROLLCALL_ASSIGN_OR_RETURN(
        const double norm,
        UpdateModel("critic_grad_norm", options_.optimizer.critic_learning_rate * factor,
                    context_.critic));
    sums_["critic_grad_norm"] += norm;
  }
  ++num_updates_;
  return OkStatus();
}

StatusOr<double> TrainStep::UpdateModel(std::string_view name, double learning_rate,
                                        TrainedModel* model) {
  timer_.Enter("reduce");
  ROLLCALL_RETURN_IF_ERROR(context_.group.SumGradient(model->gradient()));
  timer_.Enter("optimizer");
  const double norm = GlobalNorm(model->gradient_values());
  ROLLCALL_RETURN_IF_ERROR(CheckFinite(name, norm));
  ClipByNorm(norm, options_.optimizer.max_grad_norm, model->gradient_values());
  model->Update(learning_rate);
  return norm;
}

std::vector<double> TrainStep::TokenWeights(const Minibatch& minibatch,
                                            const PackedTokens& packed) const {
  std::vector<double> weights;
  weights.reserve(packed.targets_T.size());
  for (const int64_t s : packed.sequence_indices) {
    const int64_t n = flat_.num_trainable(s);
    weights.insert(weights.end(), n,
                   TokenWeight(method_.aggregation, minibatch.counts, n,
                               static_cast<double>(options_.max_completion_tokens)));
  }
  return weights;
}

std::vector<double> TrainStep::Weigh(const PackedTokens& packed, std::span<const double> prox_T) {
  const std::vector<double> behavior_T = Gather(flat_, packed, flat_.behavior_T);
  std::vector<double> log_ratios(prox_T.size(), 0.0);
  for (size_t i = 0; i < packed.sequence_indices.size(); ++i) {
    if (!flat_.sequences_S[packed.sequence_indices[i]]->sampled()) continue;
    for (int64_t t = packed.token_starts[i]; t < packed.token_starts[i + 1]; ++t) {
      log_ratios[t] = prox_T[t] - behavior_T[t];
    }
  }
  std::vector<double> weights(prox_T.size(), 1.0);
  sums_["corrected"] += static_cast<double>(
      method_.correction.weigh(options_.algorithm.correction_cap, log_ratios, weights));
  return weights;
}

Status TrainStep::AccumulateTokens(const Minibatch& minibatch, const PackedTokens& packed) {
  const AlgorithmOptions& algorithm = options_.algorithm;
  timer_.Enter("forward");
  ROLLCALL_ASSIGN_OR_RETURN(
      const TokenLogprobs pass,
      ForwardLogprobs(context_.policy.weights(), packed, options_.temperature, LawsOf(packed)));
  const at::Tensor logprobs_T = pass.logprobs_N.to(at::kCPU, at::kDouble);
  if (!prox_scored_) {
    Scatter(flat_, packed, ToVector(logprobs_T), prox_T_);
    for (const int64_t s : packed.sequence_indices) has_prox_S_[s] = 1;
  }
  const std::vector<double> prox_T = Gather(flat_, packed, prox_T_);
  const std::vector<double> weights_T = Weigh(packed, prox_T);
  const at::Tensor share_T = ToTensor(TokenWeights(minibatch, packed));

  const ObjectiveResult objective = method_.objective.token_loss(
      {.clip_low = algorithm.clip_low, .clip_high = algorithm.clip_high},
      {.logprobs_T = logprobs_T,
       .prox_logprobs_T = ToTensor(prox_T),
       .advantages_T = ToTensor(Gather(flat_, packed, advantages_T_))});
  at::Tensor loss = at::sum(at::mul(at::mul(objective.losses, ToTensor(weights_T)), share_T));
  sums_["policy_loss"] += loss.item<double>();
  if (method_.kl_placement == KlPlacement::kLoss) {
    const at::Tensor reference_T = ToTensor(Gather(flat_, packed, reference_T_));
    const at::Tensor kl =
        at::mul(at::sum(at::mul(method_.kl->loss(at::sub(logprobs_T, reference_T)), share_T)),
                algorithm.kl_coefficient);
    sums_["kl_loss"] += kl.item<double>();
    loss = at::add(loss, kl);
  }
  if (algorithm.entropy_coefficient > 0) {
    const at::Tensor bonus =
        at::mul(at::sum(at::mul(pass.entropy_N.to(at::kCPU, at::kDouble), share_T)),
                -algorithm.entropy_coefficient);
    sums_["entropy_loss"] += bonus.item<double>();
    loss = at::add(loss, bonus);
  }
  timer_.Enter("backward");
  loss.backward();

  sums_["update_tokens"] += static_cast<double>(packed.targets_T.size());
  for (const double entropy : ToVector(pass.entropy_N)) sums_["entropy"] += entropy;
  sums_["objective_items"] += static_cast<double>(packed.targets_T.size());
  for (size_t i = 0; i < objective.sums.size(); ++i) {
    sums_["objective/" + std::string(method_.objective.metrics[i])] += objective.sums[i];
  }
  return OkStatus();
}

Status TrainStep::AccumulatePairs(const Minibatch& minibatch, const PackedTokens& packed) {
  timer_.Enter("forward");
  ROLLCALL_ASSIGN_OR_RETURN(
      const TokenLogprobs pass,
      ForwardLogprobs(context_.policy.weights(), packed, options_.temperature, LawsOf(packed)));
  const at::Tensor logprobs_T = pass.logprobs_N.to(at::kCPU, at::kDouble);
  const std::vector<double> current_T = ToVector(logprobs_T);
  const std::vector<double> reference_T = Gather(flat_, packed, reference_T_);
  if (!prox_scored_ && num_updates_ == 0) {
    Scatter(flat_, packed, current_T, prox_T_);
    for (const int64_t s : packed.sequence_indices) has_prox_S_[s] = 1;
  }

  // Pack kept the order chosen, rejected, chosen, rejected, ... of the units. Differences per
  // token are added up, not sums subtracted: long completions would lose digits.
  const auto num_sides = static_cast<int64_t>(packed.sequence_indices.size());
  std::vector<int64_t> side_T;
  for (int64_t i = 0; i < num_sides; ++i) {
    side_T.insert(side_T.end(), packed.token_starts[i + 1] - packed.token_starts[i], i);
  }
  const at::Tensor logratios_P2 =
      at::index_add(at::zeros({num_sides}, at::kDouble), 0, ToTensor(side_T),
                    at::sub(logprobs_T, ToTensor(reference_T)))
          .reshape({num_sides / 2, 2});
  const ObjectiveResult objective = method_.objective.pair_loss(
      {.beta = options_.algorithm.beta, .label_smoothing = options_.algorithm.label_smoothing},
      {.chosen_logratios_P = at::select(logratios_P2, 1, 0),
       .rejected_logratios_P = at::select(logratios_P2, 1, 1)});
  const at::Tensor loss = at::mul(at::sum(objective.losses), 1.0 / minibatch.counts.items);
  sums_["policy_loss"] += loss.item<double>();
  timer_.Enter("backward");
  loss.backward();

  for (int64_t i = 0; i < num_sides; ++i) {
    const std::string side = i % 2 == 0 ? "chosen" : "rejected";
    for (int64_t t = packed.token_starts[i]; t < packed.token_starts[i + 1]; ++t) {
      sums_["logp_" + side] += current_T[t];
    }
    sums_["length_" + side] +=
        static_cast<double>(packed.token_starts[i + 1] - packed.token_starts[i]);
  }
  sums_["update_tokens"] += static_cast<double>(packed.targets_T.size());
  for (const double entropy : ToVector(pass.entropy_N)) sums_["entropy"] += entropy;
  sums_["pair_items"] += static_cast<double>(num_sides / 2);
  sums_["objective_items"] += static_cast<double>(num_sides / 2);
  for (size_t i = 0; i < objective.sums.size(); ++i) {
    sums_["objective/" + std::string(method_.objective.metrics[i])] += objective.sums[i];
  }
  return OkStatus();
}

Status TrainStep::AccumulateCritic(const Minibatch& minibatch, const PackedTokens& packed) {
  timer_.Enter("forward");
  ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor values_T,
                            ForwardValues(context_.critic->weights(), packed));
  const at::Tensor losses_T = ValueLoss(options_.algorithm.value_clip,
                                        {.values_T = values_T.to(at::kCPU, at::kDouble),
                                         .old_values_T = ToTensor(Gather(flat_, packed, values_T_)),
                                         .returns_T = ToTensor(Gather(flat_, packed, returns_T_))});
  const at::Tensor loss =
      at::mul(at::sum(at::mul(losses_T, ToTensor(TokenWeights(minibatch, packed)))),
              options_.algorithm.value_coefficient);
  sums_["value_loss"] += loss.item<double>();
  timer_.Enter("backward");
  loss.backward();
  return OkStatus();
}

Status TrainStep::CheckFinite(std::string_view metric, double value) const {
  if (std::isfinite(value)) return OkStatus();
  return DataLoss("step " + std::to_string(batch_.step) + ": " + std::string(metric) +
                  " is not finite (" + std::to_string(value) +
                  "); the policy was not updated with it");
}

}  // namespace rollcall
