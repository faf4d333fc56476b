#include "trainer/batch/aggregation.h"

#include <array>
#include <string>

namespace rollcall {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"token_mean", "seq_mean_token_mean",
                                                    "seq_mean_token_sum",
                                                    "seq_mean_token_sum_const", "item_mean"};

double Inverse(double count) { return count > 0 ? 1.0 / count : 0.0; }

}  // namespace

std::vector<std::string_view> AggregationNames() { return {kNames.begin(), kNames.end()}; }

StatusOr<Aggregation> ParseAggregation(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Aggregation>(i);
  }
  return InvalidArgument("algorithm.aggregation '" + std::string(name) + "' is not known");
}

double TokenWeight(Aggregation aggregation, const GlobalCounts& counts, int64_t num_tokens,
                   double constant) {
  switch (aggregation) {
    case Aggregation::kTokenMean:
      return Inverse(counts.tokens);
    case Aggregation::kSeqMeanTokenMean:
      return Inverse(counts.sequences) * Inverse(static_cast<double>(num_tokens));
    case Aggregation::kSeqMeanTokenSum:
      return Inverse(counts.sequences);
    case Aggregation::kSeqMeanTokenSumConst:
      return Inverse(counts.sequences) * Inverse(constant);
    case Aggregation::kItemMean:
      return Inverse(counts.items);
  }
  return 0;
}

}  // namespace rollcall
