#include "trainer/learner/train_step.h"

#include <algorithm>
#include <string>
#include <utility>

#include <c10/core/GradMode.h>

#include "trainer/advantage/whiten.h"
#include "trainer/batch/minibatch.h"
#include "trainer/learner/forward.h"
#include "trainer/learner/host_vector.h"

namespace rollcall {
namespace {

constexpr double kWhitenEpsilon = 1e-8;

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
            ForwardLogprobs(*context_.reference, packed, options_.temperature, LawsOf(packed)));
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
        ROLLCALL_ASSIGN_OR_RETURN(const TokenLogprobs pass,
                                  ForwardLogprobs(context_.policy.weights(), packed,
                                                  options_.temperature, LawsOf(packed)));
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

}  // namespace rollcall
