// What a step says of itself: sums over its batch and its updates, added over the ranks.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "trainer/learner/train_step.h"
#include "trainer/optimizer/schedule.h"

namespace rollcall {
namespace {

double StdDev(double sum, double squares, double count) {
  if (count < 2) return 0;
  const double mean = sum / count;
  return std::sqrt(std::max(0.0, squares / count - mean * mean) * count / (count - 1));
}

}  // namespace

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
