// What every advantage estimator takes and gives. Statistics are float64 on the host.
// Letters: S sequences of this rank, T trainable tokens of all of them, one after the other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rollcall {

struct AdvantageOptions {
  double gamma = 1.0;     // discount per trainable token, in (0, 1]
  double lambda = 0.95;   // bias/variance mix of GAE, in [0, 1]
  double epsilon = 1e-6;  // added to a standard deviation before dividing by it
};

struct AdvantageInput {
  std::span<const int64_t> token_starts;    // S + 1: tokens of sequence s within T
  std::span<const int64_t> groups_S;        // sequences with equal numbers share a prompt group
  std::span<const double> rewards_S;        // with the KL penalty of the sequence, if any
  std::span<const uint8_t> has_reward_S;    // 0: not scored; trains nothing, in no statistic
  std::span<const double> token_rewards_T;  // the reward on the last trainable token, KL on all
  std::span<const double> values_T;         // critics only: value of the state before the token
  std::span<const double> bootstrap_S;      // critics only: value after the last token, usually 0
};

struct AdvantageResult {
  std::vector<double> advantages_T;
  std::vector<double> returns_T;  // targets of the critic; empty without one
  // 0: the sequence leaves the loss and its denominators (not scored, or a group of one where the
  // estimator compares within groups).
  std::vector<uint8_t> keep_S;
  int64_t equal_groups = 0;   // groups whose rewards are all equal: advantages exactly zero
  int64_t single_groups = 0;  // groups of one, dropped
};

using AdvantageFn = AdvantageResult (*)(const AdvantageOptions&, const AdvantageInput&);

}  // namespace rollcall
