// What a step trains on, in plain types.
//
//   TrainBatch: prompt groups of this rank -> TrainSequence: prompt and completion tokens, which of
//   them train, what the sampler said about them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rollcall {

// A run of tokens that the policy sampled without anything said in between: what its law calls the
// completion; all tokens before it are its prompt.
struct SampledRun {
  int64_t begin = 0;  // positions
  int64_t end = 0;
  std::string kept_sets;  // as KeptSets codes; empty: the law kept everything
};

// One trajectory or data set row. All per-token vectors have token_ids.size() entries.
struct TrainSequence {
  int64_t prompt_id = 0;
  int32_t sample_index = 0;
  std::vector<int32_t> token_ids;  // prompt first
  std::vector<uint8_t> trains;     // 1 on tokens that the policy sampled or the data set gives
  // Sampled sequences only (empty otherwise); zero where the policy did not sample the token.
  std::vector<float> behavior_logprobs;
  std::vector<SampledRun> runs;  // ascending, apart
  std::optional<double> reward;  // absent for data set rows
  int32_t preference_rank = -1;  // 0: chosen, -1: unranked
  bool truncated = false;        // the token limit ended it

  bool sampled() const { return !behavior_logprobs.empty(); }
};

// The sequences that share one prompt and one baseline.
struct TrainGroup {
  int64_t prompt_id = 0;
  std::vector<TrainSequence> sequences;
};

struct TrainBatch {
  int64_t step = 0;
  // Groups of this rank: group g of the whole batch is groups[g / world_size] of rank
  // g % world_size.
  std::vector<TrainGroup> groups;
  int64_t num_groups = 0;   // over all ranks
  int64_t num_samples = 0;  // over all ranks
  int64_t max_staleness = 0;
};

// Tokens that train, counting neither a first token (nothing predicts it) nor prompt and
// observation tokens.
int64_t NumTrainable(const TrainSequence& sequence);

// Positions of those tokens, ascending; all at least 1.
std::vector<int64_t> TrainablePositions(const TrainSequence& sequence);

}  // namespace rollcall
