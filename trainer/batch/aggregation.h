// How token losses become one number: weights u such that loss = sum_t u_t L_t, with N tokens,
// S sequences that have trainable tokens, and n_b of them in sequence b. N and S are counted over
// all ranks and micro-batches of one optimizer update, so sums of shards are the whole.
//
//   token_mean                1 / N
//   seq_mean_token_mean       1 / (S n_b)           DeepSeekMath, arXiv 2402.03300, eq. 3
//   seq_mean_token_sum        1 / S
//   seq_mean_token_sum_const  1 / (S C)             Dr. GRPO, arXiv 2503.20783
//   item_mean                 1 / items             pairs, not tokens
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

enum class Aggregation {
  kTokenMean,
  kSeqMeanTokenMean,
  kSeqMeanTokenSum,
  kSeqMeanTokenSumConst,
  kItemMean,
};

// The names, in the order of the enum.
std::vector<std::string_view> AggregationNames();
// kInvalidArgument for a name that is none of them.
StatusOr<Aggregation> ParseAggregation(std::string_view name);

// Over all ranks.
struct GlobalCounts {
  double tokens = 0;
  double sequences = 0;
  double items = 0;
};

// Weight of every token of a sequence with `num_tokens` trainable ones; zero when there is nothing
// to count. `constant` is C, the longest completion of the run.
double TokenWeight(Aggregation aggregation, const GlobalCounts& counts, int64_t num_tokens,
                   double constant);

}  // namespace rollcall
