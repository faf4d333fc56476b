// Log-probabilities of the tokens of a prompt.
//
// The row of the token at p says how likely the one at p + 1 is. Rows are read while the chunk that
// computes them runs and are not kept. Places that were read before a preemption are not read
// again: their numbers would be the same.
#include <algorithm>

#include "rollout_worker/engine/group.h"

namespace rollcall {

void Engine::WantPromptScores(LiveSequence* sequence, const PlannedChunk& chunk) {
  const Group& group = *sequence->group;
  if (!group.request.wants_prompt_logprobs || sequence->index != 0 || group.is_prompt_scored()) {
    return;
  }
  const int32_t begin = sequence->num_computed;
  const auto num_scored = static_cast<int32_t>(group.prompt.logprobs.size());
  ROLLCALL_CHECK(begin <= num_scored, "a token of the prompt was not scored");
  const int64_t first_row = static_cast<int64_t>(batch_.token_ids.size()) - chunk.num_new;
  const int32_t end = std::min(begin + chunk.num_new, sequence->num_prompt - 1);
  for (int32_t position = num_scored; position < end; ++position) {
    batch_.scored_rows.push_back(first_row + position - begin);
    scored_.push_back({sequence, sequence->tokens[static_cast<size_t>(position) + 1]});
  }
}

void Engine::TakePromptScores(size_t first, std::span<const float> logits) {
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (size_t i = 0; i < logits.size() / vocab; ++i) {
    const ScoredToken& scored = scored_[first + i];
    Group& group = *scored.sequence->group;
    if (!group.prompt_status.ok()) continue;
    group.prompt_status = sampler_.SetRow(logits.subspan(i * vocab, vocab), SamplingLaw());
    if (!group.prompt_status.ok()) continue;
    group.prompt.logprobs.push_back(sampler_.ModelLogprob(scored.token));
    group.prompt.ranks.push_back(sampler_.Rank(scored.token));
    const int32_t num_top = group.request.num_prompt_top_logprobs;
    if (num_top > 0) group.prompt.top_logprobs.push_back(sampler_.TopLogprobs(num_top));
    // Computed once more, the prompt may come from the cache.
    if (group.is_prompt_scored()) {
      scored.sequence->skips_prefix_cache = scored.sequence->kv_budget > 0;
    }
  }
}

}  // namespace rollcall
