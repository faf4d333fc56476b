#include "trainer/batch/packing.h"

namespace rollcall {

std::vector<std::vector<Unit>> CutMicrobatches(std::span<const Unit> units,
                                               std::span<const int64_t> num_tokens,
                                               int64_t max_tokens) {
  std::vector<std::vector<Unit>> microbatches;
  int64_t used = 0;
  for (const Unit& unit : units) {
    int64_t size = 0;
    for (const int64_t s : unit) size += num_tokens[s];
    if (microbatches.empty() || used + size > max_tokens) {
      microbatches.emplace_back();
      used = 0;
    }
    microbatches.back().push_back(unit);
    used += size;
  }
  return microbatches;
}

PackedTokens Pack(std::span<const TrainSequence* const> sequences,
                  std::span<const int64_t> sequence_indices) {
  PackedTokens packed;
  packed.starts.push_back(0);
  packed.token_starts.push_back(0);
  for (const int64_t index : sequence_indices) {
    const TrainSequence& sequence = *sequences[index];
    const auto first = static_cast<int64_t>(packed.token_ids_N.size());
    for (size_t t = 0; t < sequence.token_ids.size(); ++t) {
      packed.token_ids_N.push_back(sequence.token_ids[t]);
      packed.positions_N.push_back(static_cast<int32_t>(t));
    }
    for (const int64_t t : TrainablePositions(sequence)) {
      packed.targets_T.push_back(sequence.token_ids[t]);
      packed.rows_T.push_back(first + t - 1);
    }
    packed.starts.push_back(static_cast<int32_t>(packed.token_ids_N.size()));
    packed.token_starts.push_back(static_cast<int64_t>(packed.targets_T.size()));
    packed.sequence_indices.push_back(index);
  }
  return packed;
}

}  // namespace rollcall
