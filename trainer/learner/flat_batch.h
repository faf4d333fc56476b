// The sequences of a rank's batch as one list, with their trainable tokens one after the other.
// Letters: S sequences, T trainable tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "services/base/status/status.h"
#include "services/model/config/model_config.h"
#include "services/model/law/kept_set.h"
#include "trainer/batch/packing.h"
#include "trainer/batch/types.h"

namespace rollcall {

struct FlatBatch {
  std::vector<const TrainSequence*> sequences_S;  // borrowed from the batch
  std::vector<int64_t> groups_S;                  // group of the rank's batch
  std::vector<int64_t> num_tokens_S;              // prompt included
  std::vector<int64_t> token_starts;              // S + 1: trainable tokens of s within T
  std::vector<double> behavior_T;                 // 0 for data set rows
  // What the law kept, for each of a sequence's runs; empty for a run that it kept everything in.
  std::vector<std::vector<std::optional<KeptSets>>> kept_S;

  int64_t num_sequences() const { return static_cast<int64_t>(sequences_S.size()); }
  int64_t num_trainable() const { return token_starts.back(); }
  int64_t num_trainable(int64_t s) const { return token_starts[s + 1] - token_starts[s]; }
};

// Checks the batch against the model and flattens it. kInvalidArgument names prompt and sample: a
// token that is not in the vocabulary, a sequence longer than the model's positions, vectors that
// do not match, a reward or log-probability that is not finite, a run or its kept sets that do not
// fit the tokens.
StatusOr<FlatBatch> Flatten(const TrainBatch& batch, const ModelConfig& config);

// The entries of `values_T` that belong to the packed micro-batch, in its order; and back.
std::vector<double> Gather(const FlatBatch& flat, const PackedTokens& packed,
                           std::span<const double> values_T);
void Scatter(const FlatBatch& flat, const PackedTokens& packed, std::span<const double> packed_T,
             std::span<double> values_T);

}  // namespace rollcall
