#include "trainer/learner/train_step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <ATen/ops/add.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/select.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "trainer/advantage/whiten.h"
#include "trainer/batch/minibatch.h"
#include "trainer/learner/forward.h"
#include "trainer/learner/host_vector.h"
#include "trainer/loss/value.h"
#include "trainer/optimizer/clip.h"
#include "trainer/optimizer/schedule.h"

namespace rollcall {
namespace {

constexpr double kWhitenEpsilon = 1e-8;

// Losses of the current update; added over ranks before they are checked.
enum UpdateLoss { kPolicyLoss, kKlLoss, kEntropyLoss, kValueLoss, kNumUpdateLosses };

std::vector<std::string> SumNames(const Method& method) {
  std::vector<std::string> names = {
      // Of the batch.
      "tokens", "trainable_tokens", "sequences", "truncated", "empty", "rewards", "reward_sum",
      "reward_squares", "equal_groups", "single_groups", "dropped_sequences", "pairs", "ties",
      "duplicates", "empty_pairs", "unpaired",
      // Of the scores.
      "gap_tokens", "gap_abs", "behavior_k1", "behavior_k3", "weight_sum", "weight_squares",
      "kl_tokens", "kl_k1", "kl_k3", "advantage_tokens", "advantage_sum", "advantage_squares",
      "return_sum", "return_squares", "residual_sum", "residual_squares", "value_sum",
      // Of the updates.
      "update_tokens", "entropy", "corrected", "objective_items", "pair_items", "logp_chosen",
      "logp_rejected", "length_chosen", "length_rejected"};
  for (const std::string_view name : method.objective.metrics) {
    names.push_back("objective/" + std::string(name));
  }
  for (const char* loss : {"policy_loss", "kl_loss", "entropy_loss", "value_loss"}) {
    names.emplace_back(loss);
  }
  for (const char* norm : {"grad_norm", "grad_clipped", "critic_grad_norm"}) {
    names.emplace_back(norm);
  }
  return names;
}

std::vector<int64_t> AllIndices(int64_t count) {
  std::vector<int64_t> indices(count);
  for (int64_t i = 0; i < count; ++i) indices[i] = i;
  return indices;
}

double StdDev(double sum, double squares, double count) {
  if (count < 2) return 0;
  const double mean = sum / count;
  return std::sqrt(std::max(0.0, squares / count - mean * mean) * count / (count - 1));
}

}  // namespace

TrainStep::TrainStep(const TrainStepContext& context, const TrainBatch& batch)
    : context_(context),
      options_(context.options),
      method_(context.method),
      batch_(batch),
      sums_(SumNames(context.method)),
      timer_(context.clock, context.events) {}

bool TrainStep::trains_policy() const {
  return context_.critic == nullptr || batch_.step > options_.critic_warmup_steps;
}

bool TrainStep::one_update() const {
  return options_.epochs_per_step * options_.minibatches_per_epoch == 1;
}

StatusOr<StepReport> TrainStep::Run() {
  timer_.Enter("score");
  ROLLCALL_ASSIGN_OR_RETURN(flat_, Flatten(batch_, context_.policy.weights().config));
  const int64_t expected_groups =
      (batch_.num_groups - context_.group.rank() + context_.group.world_size() - 1) /
      context_.group.world_size();
  if (static_cast<int64_t>(batch_.groups.size()) != expected_groups) {
    return InvalidArgument("batch of step " + std::to_string(batch_.step) + " has " +
                           std::to_string(batch_.groups.size()) + " groups for rank " +
                           std::to_string(context_.group.rank()) + ", not " +
                           std::to_string(expected_groups));
  }
  const int64_t num_sequences = flat_.num_sequences();
  units_per_group_.resize(batch_.groups.size());
  keep_S_.assign(num_sequences, 1);
  has_prox_S_.assign(num_sequences, 0);
  has_reference_S_.assign(num_sequences, 0);
  prox_T_.assign(flat_.num_trainable(), 0.0);
  reference_T_.assign(flat_.num_trainable(), 0.0);

  if (method_.over_pairs()) MakePairs();
  const std::vector<int64_t> to_score = SequencesToScore();
  if (method_.needs_reference()) ROLLCALL_RETURN_IF_ERROR(ScoreReference(to_score));
  // With a single update the policy at the start of the step is the policy of the forward pass;
  // otherwise, and where the reward needs it before, it gets a pass of its own.
  const bool needs_prox = !method_.over_pairs() && !one_update();
  if (needs_prox || method_.kl_placement == KlPlacement::kReward || !trains_policy()) {
    ROLLCALL_RETURN_IF_ERROR(ScoreProx(to_score));
  }
  if (context_.critic != nullptr) ROLLCALL_RETURN_IF_ERROR(ScoreValues(to_score));
  if (!method_.over_pairs()) {
    ROLLCALL_RETURN_IF_ERROR(ComputeAdvantages());
    MakeTokenUnits();
  }

  for (int64_t epoch = 0; epoch < options_.epochs_per_step; ++epoch) {
    timer_.Enter("reduce");
    ROLLCALL_ASSIGN_OR_RETURN(const std::vector<Minibatch> minibatches, MakeMinibatches(epoch));
    for (const Minibatch& minibatch : minibatches) {
      const double items = method_.over_pairs() ? minibatch.counts.items : minibatch.counts.tokens;
      if (items == 0) {
        ++num_skipped_;
        continue;
      }
      ROLLCALL_RETURN_IF_ERROR(RunMinibatch(minibatch));
    }
  }
  return Report();
}

// --- Scoring --------------------------------------------------------------------------------

Status TrainStep::Score(std::string_view phase, std::span<const int64_t> sequences,
                        const ScoreFn& score, std::vector<double>* values_T) {
  timer_.Enter(phase);
  std::vector<Unit> units;
  for (const int64_t s : sequences) units.push_back({s});
  const c10::AutoGradMode no_grad(false);
  for (const std::vector<Unit>& microbatch :
       CutMicrobatches(units, flat_.num_tokens_S, options_.max_tokens_per_microbatch)) {
    std::vector<int64_t> members;
    for (const Unit& unit : microbatch) members.push_back(unit.front());
    const PackedTokens packed = Pack(flat_.sequences_S, members);
    ROLLCALL_ASSIGN_OR_RETURN(const std::vector<double> packed_T, score(packed));
    Scatter(flat_, packed, packed_T, *values_T);
    if (context_.events.progress) context_.events.progress();
  }
  return OkStatus();
}

Status TrainStep::ScoreReference(std::span<const int64_t> sequences) {
  std::vector<int64_t> missing;
  for (const int64_t s : sequences) {
    has_reference_S_[s] = 1;
    const TrainSequence& sequence = *flat_.sequences_S[s];
    const std::vector<double>* held =
        sequence.sampled() ? nullptr : context_.reference_cache.Find(sequence);
    if (held == nullptr) {
      missing.push_back(s);
    } else {
      std::copy(held->begin(), held->end(), reference_T_.begin() + flat_.token_starts[s]);
    }
  }
  ROLLCALL_RETURN_IF_ERROR(Score(
      "reference", missing,
      [&](const PackedTokens& packed) -> StatusOr<std::vector<double>> {
        ROLLCALL_ASSIGN_OR_RETURN(
            const TokenLogprobs pass,
            ForwardLogprobs(*context_.reference, packed, options_.temperature));
        return ToVector(pass.logprobs_N);
      },
      &reference_T_));
  for (const int64_t s : missing) {
    const TrainSequence& sequence = *flat_.sequences_S[s];
    if (sequence.sampled()) continue;
    context_.reference_cache.Put(sequence, {reference_T_.begin() + flat_.token_starts[s],
                                            reference_T_.begin() + flat_.token_starts[s + 1]});
  }
  return OkStatus();
}

Status TrainStep::ScoreProx(std::span<const int64_t> sequences) {
  prox_scored_ = true;
  for (const int64_t s : sequences) has_prox_S_[s] = 1;
  return Score(
      "score", sequences,
      [&](const PackedTokens& packed) -> StatusOr<std::vector<double>> {
        ROLLCALL_ASSIGN_OR_RETURN(
            const TokenLogprobs pass,
            ForwardLogprobs(context_.policy.weights(), packed, options_.temperature));
        return ToVector(pass.logprobs_N);
      },
      &prox_T_);
}

Status TrainStep::ScoreValues(std::span<const int64_t> sequences) {
  values_T_.assign(flat_.num_trainable(), 0.0);
  return Score(
      "values", sequences,
      [&](const PackedTokens& packed) -> StatusOr<std::vector<double>> {
        ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor values,
                                  ForwardValues(context_.critic->weights(), packed));
        return ToVector(values);
      },
      &values_T_);
}

std::vector<int64_t> TrainStep::SequencesToScore() const {
  std::vector<int64_t> sequences;
  if (!method_.over_pairs()) {
    for (const int64_t s : AllIndices(flat_.num_sequences())) {
      if (flat_.num_trainable(s) > 0) sequences.push_back(s);
    }
    return sequences;
  }
  for (const std::vector<Unit>& units : units_per_group_) {
    for (const Unit& unit : units) sequences.insert(sequences.end(), unit.begin(), unit.end());
  }
  std::sort(sequences.begin(), sequences.end());
  sequences.erase(std::unique(sequences.begin(), sequences.end()), sequences.end());
  return sequences;
}

// --- Units, advantages, minibatches ---------------------------------------------------------

void TrainStep::MakePairs() {
  int64_t first = 0;
  for (size_t g = 0; g < batch_.groups.size(); ++g) {
    const TrainGroup& group = batch_.groups[g];
    const PairSet set = method_.pair_builder.build(group);
    for (const Pair& pair : set.pairs) {
      units_per_group_[g].push_back({first + pair.chosen, first + pair.rejected});
    }
    sums_["pairs"] += static_cast<double>(set.pairs.size());
    sums_["ties"] += static_cast<double>(set.ties);
    sums_["duplicates"] += static_cast<double>(set.duplicates);
    sums_["empty_pairs"] += static_cast<double>(set.empty);
    sums_["unpaired"] += static_cast<double>(set.unpaired);
    first += static_cast<int64_t>(group.sequences.size());
  }
}

Status TrainStep::ComputeAdvantages() {
  timer_.Enter("score");
  const int64_t num_sequences = flat_.num_sequences();
  std::vector<double> rewards_S(num_sequences, 0.0);
  std::vector<uint8_t> has_reward_S(num_sequences, 0);
  std::vector<double> token_rewards_T(flat_.num_trainable(), 0.0);
  const std::vector<double> bootstrap_S(num_sequences, 0.0);
  const bool kl_in_reward = method_.kl_placement == KlPlacement::kReward;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const std::optional<double>& reward = flat_.sequences_S[s]->reward;
    has_reward_S[s] = reward.has_value();
    rewards_S[s] = reward.value_or(0.0);
    const int64_t end = flat_.token_starts[s + 1];
    for (int64_t t = flat_.token_starts[s]; kl_in_reward && t < end; ++t) {
      const double penalty =
          options_.algorithm.kl_coefficient * method_.kl->value(prox_T_[t] - reference_T_[t]);
      token_rewards_T[t] -= penalty;
      rewards_S[s] -= penalty;
    }
    if (flat_.num_trainable(s) > 0) token_rewards_T[end - 1] += reward.value_or(0.0);
  }
  AdvantageResult result = method_.advantage.estimate(
      {.gamma = options_.algorithm.gamma, .lambda = options_.algorithm.lambda},
      {.token_starts = flat_.token_starts,
       .groups_S = flat_.groups_S,
       .rewards_S = rewards_S,
       .has_reward_S = has_reward_S,
       .token_rewards_T = token_rewards_T,
       .values_T = values_T_,
       .bootstrap_S = bootstrap_S});
  advantages_T_ = std::move(result.advantages_T);
  returns_T_ = std::move(result.returns_T);
  keep_S_ = std::move(result.keep_S);
  sums_["equal_groups"] += static_cast<double>(result.equal_groups);
  sums_["single_groups"] += static_cast<double>(result.single_groups);
  if (!options_.algorithm.whiten_advantages) return OkStatus();
  ROLLCALL_ASSIGN_OR_RETURN(
      const Moments moments,
      GlobalMoments(flat_.token_starts, keep_S_, advantages_T_,
                    [&](std::span<double> values) { return context_.group.Sum(values); }));
  Whiten(moments, flat_.token_starts, keep_S_, kWhitenEpsilon, advantages_T_);
  return OkStatus();
}

void TrainStep::MakeTokenUnits() {
  for (int64_t s = 0; s < flat_.num_sequences(); ++s) {
    if (keep_S_[s] != 0 && flat_.num_trainable(s) > 0) {
      units_per_group_[flat_.groups_S[s]].push_back({s});
    }
  }
}

StatusOr<std::vector<TrainStep::Minibatch>> TrainStep::MakeMinibatches(int64_t epoch) {
  LearnerGroup& group = context_.group;
  std::vector<double> sizes(batch_.num_groups, 0.0);
  std::vector<const Unit*> units;
  for (size_t g = 0; g < units_per_group_.size(); ++g) {
    sizes[static_cast<int64_t>(g) * group.world_size() + group.rank()] =
        static_cast<double>(units_per_group_[g].size());
    for (const Unit& unit : units_per_group_[g]) units.push_back(&unit);
  }
  ROLLCALL_RETURN_IF_ERROR(group.Sum(sizes));
  const std::vector<int64_t> units_per_group(sizes.begin(), sizes.end());
  const std::vector<std::vector<int64_t>> assigned =
      AssignMinibatches({.seed = options_.seed,
                         .step = batch_.step,
                         .epoch = epoch,
                         .num_minibatches = options_.minibatches_per_epoch,
                         .rank = group.rank(),
                         .world_size = group.world_size()},
                        units_per_group);
  std::vector<Minibatch> minibatches(assigned.size());
  std::vector<double> counts(3 * assigned.size(), 0.0);
  for (size_t m = 0; m < assigned.size(); ++m) {
    for (const int64_t u : assigned[m]) {
      minibatches[m].units.push_back(*units[u]);
      for (const int64_t s : *units[u]) {
        counts[3 * m] += static_cast<double>(flat_.num_trainable(s));
        counts[3 * m + 1] += 1;
      }
      counts[3 * m + 2] += 1;
    }
  }
  ROLLCALL_RETURN_IF_ERROR(group.Sum(counts));
  for (size_t m = 0; m < minibatches.size(); ++m) {
    minibatches[m].counts = {
        .tokens = counts[3 * m], .sequences = counts[3 * m + 1], .items = counts[3 * m + 2]};
  }
  return minibatches;
}

// --- Updates --------------------------------------------------------------------------------

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
      ForwardLogprobs(context_.policy.weights(), packed, options_.temperature));
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
      ForwardLogprobs(context_.policy.weights(), packed, options_.temperature));
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

// --- Report ---------------------------------------------------------------------------------

void TrainStep::SumBatch() {
  for (int64_t s = 0; s < flat_.num_sequences(); ++s) {
    const TrainSequence& sequence = *flat_.sequences_S[s];
    sums_["sequences"] += 1;
    sums_["tokens"] += static_cast<double>(flat_.num_tokens_S[s]);
    sums_["trainable_tokens"] += static_cast<double>(flat_.num_trainable(s));
    sums_["truncated"] += sequence.truncated ? 1 : 0;
    sums_["empty"] += flat_.num_trainable(s) == 0 ? 1 : 0;
    sums_["dropped_sequences"] += keep_S_[s] == 0 ? 1 : 0;
    if (!sequence.reward.has_value()) continue;
    sums_["rewards"] += 1;
    sums_["reward_sum"] += *sequence.reward;
    sums_["reward_squares"] += *sequence.reward * *sequence.reward;
  }
}

void TrainStep::SumMismatch() {
  for (int64_t s = 0; s < flat_.num_sequences(); ++s) {
    const bool sampled = flat_.sequences_S[s]->sampled();
    for (int64_t t = flat_.token_starts[s]; t < flat_.token_starts[s + 1]; ++t) {
      if (sampled && has_prox_S_[s] != 0) {
        // k1 and k3 of KL(behaviour || prox), on tokens that behaviour sampled.
        const double gap = prox_T_[t] - flat_.behavior_T[t];
        const double weight = std::exp(std::clamp(gap, -kMaxLogRatio, kMaxLogRatio));
        sums_["gap_tokens"] += 1;
        sums_["gap_abs"] += std::abs(gap);
        sums_["behavior_k1"] += KlK1(-gap);
        sums_["behavior_k3"] += KlK3(-gap);
        sums_["weight_sum"] += weight;
        sums_["weight_squares"] += weight * weight;
      }
      if (sampled && has_prox_S_[s] != 0 && has_reference_S_[s] != 0) {
        const double difference = prox_T_[t] - reference_T_[t];
        sums_["kl_tokens"] += 1;
        sums_["kl_k1"] += KlK1(difference);
        sums_["kl_k3"] += KlK3(difference);
      }
      if (!method_.over_pairs() && keep_S_[s] != 0) {
        sums_["advantage_tokens"] += 1;
        sums_["advantage_sum"] += advantages_T_[t];
        sums_["advantage_squares"] += advantages_T_[t] * advantages_T_[t];
      }
      if (!returns_T_.empty() && keep_S_[s] != 0) {
        const double residual = returns_T_[t] - values_T_[t];
        sums_["return_sum"] += returns_T_[t];
        sums_["return_squares"] += returns_T_[t] * returns_T_[t];
        sums_["residual_sum"] += residual;
        sums_["residual_squares"] += residual * residual;
        sums_["value_sum"] += values_T_[t];
      }
    }
  }
}

StatusOr<StepReport> TrainStep::Report() {
  SumBatch();
  SumMismatch();
  std::array<double, 3> maxima = {0, -std::numeric_limits<double>::infinity(),
                                  -std::numeric_limits<double>::infinity()};
  for (int64_t s = 0; s < flat_.num_sequences(); ++s) {
    const std::optional<double>& reward = flat_.sequences_S[s]->reward;
    if (reward.has_value()) {
      maxima[1] = std::max(maxima[1], *reward);
      maxima[2] = std::max(maxima[2], -*reward);
    }
    if (!flat_.sequences_S[s]->sampled() || has_prox_S_[s] == 0) continue;
    for (int64_t t = flat_.token_starts[s]; t < flat_.token_starts[s + 1]; ++t) {
      maxima[0] = std::max(maxima[0], std::abs(prox_T_[t] - flat_.behavior_T[t]));
    }
  }
  // Gradient norms are the same on all ranks already; the sum below would multiply them.
  const double grad_norm = sums_["grad_norm"];
  const double grad_clipped = sums_["grad_clipped"];
  const double critic_grad_norm = sums_["critic_grad_norm"];
  timer_.Enter("reduce");
  ROLLCALL_RETURN_IF_ERROR(context_.group.Sum(sums_.values()));
  ROLLCALL_RETURN_IF_ERROR(context_.group.Max(maxima));
  timer_.Stop();

  StepReport report;
  report.optimizer_updates = num_updates_;
  std::map<std::string, double>& m = report.metrics;
  const double updates = std::max(1, num_updates_);
  m["updates"] = num_updates_;
  m["updates_skipped"] = num_skipped_;
  m["policy_loss"] = sums_["policy_loss"] / updates;
  m["loss"] =
      (sums_["policy_loss"] + sums_["kl_loss"] + sums_["entropy_loss"] + sums_["value_loss"]) /
      updates;
  m["grad_norm"] = grad_norm / updates;
  m["grad_clipped_share"] = grad_clipped / updates;
  m["lr"] = options_.optimizer.learning_rate *
            LearningRateFactor(options_.optimizer.schedule, batch_.step);
  m["tokens"] = sums_["tokens"];
  m["trainable_tokens"] = sums_["trainable_tokens"];
  m["sequences"] = sums_["sequences"];
  m["sequences_empty"] = sums_["empty"];
  m["truncated_share"] = sums_.Mean("truncated", "sequences");
  m["completion_tokens_mean"] = sums_.Mean("trainable_tokens", "sequences");
  m["staleness_max"] = static_cast<double>(batch_.max_staleness);
  // Absent where no pass of the policy was made: a zero would look like a collapse.
  if (sums_["update_tokens"] > 0) m["entropy"] = sums_.Mean("entropy", "update_tokens");
  if (sums_["rewards"] > 0) {
    m["reward_mean"] = sums_.Mean("reward_sum", "rewards");
    m["reward_std"] = StdDev(sums_["reward_sum"], sums_["reward_squares"], sums_["rewards"]);
    m["reward_max"] = maxima[1];
    m["reward_min"] = 0.0 - maxima[2];
  }
  if (sums_["gap_tokens"] > 0) {
    m["logprob_gap_mean"] = sums_.Mean("gap_abs", "gap_tokens");
    m["logprob_gap_max"] = maxima[0];
    m["behavior_kl_k1"] = sums_.Mean("behavior_k1", "gap_tokens");
    m["behavior_kl_k3"] = sums_.Mean("behavior_k3", "gap_tokens");
    m["ess_fraction"] =
        sums_["weight_sum"] * sums_["weight_sum"] / (sums_["gap_tokens"] * sums_["weight_squares"]);
  }
  if (sums_["kl_tokens"] > 0) {
    m["kl"] = sums_.Mean("kl_k3", "kl_tokens");
    m["kl_k1"] = sums_.Mean("kl_k1", "kl_tokens");
  }
  if (method_.kl_placement == KlPlacement::kLoss) m["kl_loss"] = sums_["kl_loss"] / updates;
  if (options_.algorithm.entropy_coefficient > 0) {
    m["entropy_loss"] = sums_["entropy_loss"] / updates;
  }
  for (const std::string_view name : method_.objective.metrics) {
    if (sums_["objective_items"] == 0) break;
    m[std::string(name)] = sums_.Mean("objective/" + std::string(name), "objective_items");
  }
  if (method_.over_pairs()) {
    m["pairs"] = sums_["pairs"];
    m["pairs_dropped_ties"] = sums_["ties"];
    m["pairs_dropped_duplicates"] = sums_["duplicates"];
    m["pairs_dropped_empty"] = sums_["empty_pairs"];
    m["groups_without_pair"] = sums_["unpaired"];
    for (const char* name : {"logp_chosen", "logp_rejected", "length_chosen", "length_rejected"}) {
      if (sums_["pair_items"] == 0) break;
      m[name] = sums_.Mean(name, "pair_items");
    }
  } else if (sums_["rewards"] > 0) {
    m["advantage_mean"] = sums_.Mean("advantage_sum", "advantage_tokens");
    m["advantage_std"] =
        StdDev(sums_["advantage_sum"], sums_["advantage_squares"], sums_["advantage_tokens"]);
    m["groups_equal_reward"] = sums_["equal_groups"];
    m["groups_of_one"] = sums_["single_groups"];
    m["sequences_dropped"] = sums_["dropped_sequences"];
    if (options_.algorithm.correction != "none") {
      m["corrected_share"] = sums_.Mean("corrected", "update_tokens");
    }
  }
  if (context_.critic != nullptr) {
    const double n = sums_["advantage_tokens"];
    const double spread = StdDev(sums_["return_sum"], sums_["return_squares"], n);
    const double left = StdDev(sums_["residual_sum"], sums_["residual_squares"], n);
    m["value_loss"] = sums_["value_loss"] / updates;
    m["value_mean"] = sums_.Mean("value_sum", "advantage_tokens");
    m["return_mean"] = sums_.Mean("return_sum", "advantage_tokens");
    m["value_explained_variance"] = spread > 0 ? 1.0 - left * left / (spread * spread) : 0.0;
    m["critic_grad_norm"] = critic_grad_norm / updates;
    m["critic_lr"] = options_.optimizer.critic_learning_rate *
                     LearningRateFactor(options_.optimizer.schedule, batch_.step);
  }
  double total_seconds = 0;
  for (const auto& [phase, seconds] : timer_.seconds()) {
    m["seconds_" + phase] = seconds;
    total_seconds += seconds;
  }
  m["seconds_update"] = total_seconds;
  if (total_seconds > 0) m["tokens_per_second"] = sums_["tokens"] / total_seconds;
  return report;
}

}  // namespace rollcall
