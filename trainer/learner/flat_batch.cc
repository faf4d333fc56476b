#include "trainer/learner/flat_batch.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace rollcall {
namespace {

std::string Name(const TrainSequence& sequence) {
  return "prompt " + std::to_string(sequence.prompt_id) + ", sample " +
         std::to_string(sequence.sample_index);
}

Status CheckSequence(const TrainSequence& sequence, const ModelConfig& config) {
  const std::string who = Name(sequence) + ": ";
  const size_t length = sequence.token_ids.size();
  if (length == 0) return InvalidArgument(who + "no tokens");
  if (static_cast<int64_t>(length) > config.max_positions) {
    return InvalidArgument(who + std::to_string(length) + " tokens, the model has " +
                           std::to_string(config.max_positions) + " positions");
  }
  if (sequence.trains.size() != length) {
    return InvalidArgument(who + std::to_string(sequence.trains.size()) + " mask entries for " +
                           std::to_string(length) + " tokens");
  }
  if (sequence.sampled() && sequence.behavior_logprobs.size() != length) {
    return InvalidArgument(who + std::to_string(sequence.behavior_logprobs.size()) +
                           " behaviour log-probabilities for " + std::to_string(length) +
                           " tokens");
  }
  for (const int32_t id : sequence.token_ids) {
    if (id < 0 || id >= config.vocab_size) {
      return InvalidArgument(who + "token " + std::to_string(id) + " is not in the vocabulary of " +
                             std::to_string(config.vocab_size));
    }
  }
  for (const float logprob : sequence.behavior_logprobs) {
    if (!std::isfinite(logprob)) {
      return InvalidArgument(who + "a behaviour log-probability is not finite");
    }
  }
  if (sequence.reward.has_value() && !std::isfinite(*sequence.reward)) {
    return InvalidArgument(who + "the reward is not finite");
  }
  return OkStatus();
}

StatusOr<std::vector<std::optional<KeptSets>>> ReadRuns(const TrainSequence& sequence,
                                                        const ModelConfig& config) {
  std::vector<std::optional<KeptSets>> kept;
  int64_t end = 0;
  for (const SampledRun& run : sequence.runs) {
    if (run.begin < end || run.end < run.begin ||
        run.end > static_cast<int64_t>(sequence.token_ids.size())) {
      return InvalidArgument("a run of sampled tokens from " + std::to_string(run.begin) + " to " +
                             std::to_string(run.end) + " does not fit the sequence");
    }
    end = run.end;
    kept.emplace_back();
    if (run.kept_sets.empty()) continue;
    ROLLCALL_ASSIGN_OR_RETURN(
        kept.back(), KeptSets::Parse(run.kept_sets, run.end - run.begin, config.vocab_size));
    for (int64_t t = run.begin; t < run.end; ++t) {
      const int32_t token = sequence.token_ids[static_cast<size_t>(t)];
      if (kept.back()->Contains(t - run.begin, token)) continue;
      return InvalidArgument("token " + std::to_string(token) + " at position " +
                             std::to_string(t) + " is not in the set that its law kept");
    }
  }
  return kept;
}

}  // namespace

StatusOr<FlatBatch> Flatten(const TrainBatch& batch, const ModelConfig& config) {
  FlatBatch flat;
  flat.token_starts.push_back(0);
  for (size_t g = 0; g < batch.groups.size(); ++g) {
    for (const TrainSequence& sequence : batch.groups[g].sequences) {
      ROLLCALL_RETURN_IF_ERROR(CheckSequence(sequence, config));
      auto kept = ReadRuns(sequence, config);
      if (!kept.ok()) return Annotate(kept.status(), Name(sequence));
      flat.kept_S.push_back(*std::move(kept));
      flat.sequences_S.push_back(&sequence);
      flat.groups_S.push_back(static_cast<int64_t>(g));
      flat.num_tokens_S.push_back(static_cast<int64_t>(sequence.token_ids.size()));
      for (const int64_t t : TrainablePositions(sequence)) {
        flat.behavior_T.push_back(sequence.sampled() ? sequence.behavior_logprobs[t] : 0.0);
      }
      flat.token_starts.push_back(static_cast<int64_t>(flat.behavior_T.size()));
    }
  }
  return flat;
}

std::vector<double> Gather(const FlatBatch& flat, const PackedTokens& packed,
                           std::span<const double> values_T) {
  std::vector<double> result;
  result.reserve(packed.targets_T.size());
  for (const int64_t s : packed.sequence_indices) {
    result.insert(result.end(), values_T.begin() + flat.token_starts[s],
                  values_T.begin() + flat.token_starts[s + 1]);
  }
  return result;
}

void Scatter(const FlatBatch& flat, const PackedTokens& packed, std::span<const double> packed_T,
             std::span<double> values_T) {
  for (size_t i = 0; i < packed.sequence_indices.size(); ++i) {
    std::copy(packed_T.begin() + packed.token_starts[i],
              packed_T.begin() + packed.token_starts[i + 1],
              values_T.begin() + flat.token_starts[packed.sequence_indices[i]]);
  }
}

}  // namespace rollcall
