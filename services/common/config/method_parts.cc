#include "services/common/config/method_parts.h"

namespace rollcall {
namespace {

constexpr MethodPart kAdvantages[] = {
    {"none", kNeedsNothing, "No advantages: supervised and preference losses."},
    {"group_norm", kNeedsReward | kNeedsGroup,
     "Reward minus the mean of its prompt group, over the group's standard deviation."},
    {"group_mean", kNeedsReward | kNeedsGroup, "Reward minus the mean of its prompt group."},
    {"leave_one_out", kNeedsReward | kNeedsGroup,
     "Reward minus the mean of the other samples of its prompt group."},
    {"gae", kNeedsReward | kNeedsCritic, "Generalized advantage estimation with a critic."},
    {"return_to_go", kNeedsReward, "Discounted reward from the token to the end."},
};

constexpr MethodPart kLosses[] = {
    {"nll", kNeedsCompletions, "Negative log-likelihood of given completions."},
    {"reinforce", kNeedsReward, "Advantage times log-probability."},
    {"ppo_clip", kNeedsReward, "Probability ratio times advantage, clipped."},
    {"dpo", kNeedsPairs | kNeedsReference, "Direct preference optimisation."},
};

constexpr MethodPart kAggregations[] = {
    {"token_mean", kNeedsNothing, "Mean over all tokens of the minibatch."},
    {"seq_mean_token_mean", kNeedsNothing, "Mean over sequences of the mean over their tokens."},
    {"seq_mean_token_sum", kNeedsNothing, "Mean over sequences of the sum over their tokens."},
    {"seq_mean_token_sum_const", kNeedsNothing,
     "Mean over sequences of the sum over their tokens, over the token limit."},
    {"item_mean", kNeedsPairs, "Mean over pairs."},
};

constexpr MethodPart kPairBuilders[] = {
    {"none", kNeedsNothing, "No pairs."},
    {"as_given", kNeedsPairs, "The pairs of the data rows."},
    {"best_worst", kNeedsPairs | kNeedsReward | kNeedsGroup,
     "The best and the worst sample of each prompt group; ties make no pair."},
};

constexpr MethodPart kCorrections[] = {
    {"none", kNeedsNothing, "Behaviour log-probabilities are taken as they are."},
    {"token_truncate", kNeedsReward, "Importance weight per token, capped at correction_cap."},
    {"token_mask", kNeedsReward, "Tokens with a weight outside [1/cap, cap] do not train."},
};

constexpr MethodPart kKlEstimators[] = {
    {"k1", kNeedsReference, "Log ratio: unbiased, high variance."},
    {"k2", kNeedsReference, "Half the squared log ratio."},
    {"k3", kNeedsReference, "Ratio - 1 - log ratio: unbiased, never negative."},
};

}  // namespace

std::span<const MethodPart> Advantages() { return kAdvantages; }
std::span<const MethodPart> Losses() { return kLosses; }
std::span<const MethodPart> Aggregations() { return kAggregations; }
std::span<const MethodPart> PairBuilders() { return kPairBuilders; }
std::span<const MethodPart> Corrections() { return kCorrections; }
std::span<const MethodPart> KlEstimators() { return kKlEstimators; }

const MethodPart* FindPart(std::span<const MethodPart> parts, std::string_view name) {
  for (const MethodPart& part : parts) {
    if (part.name == name) return &part;
  }
  return nullptr;
}

std::string PartNames(std::span<const MethodPart> parts) {
  std::string names;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) names += i + 1 == parts.size() ? " or " : ", ";
    names += parts[i].name;
  }
  return names;
}

}  // namespace rollcall
