// What a group must be for the engine to take it.
#include <algorithm>
#include <string>
#include <utility>

#include "rollout_worker/engine/group.h"
#include "rollout_worker/sampler/beam_search.h"
#include "services/model/decoder/kv_budget.h"

namespace rollcall {
namespace {

Status CheckTokens(std::span<const int32_t> tokens, int64_t vocab_size, const char* what) {
  for (const int32_t token : tokens) {
    if (token >= 0 && token < vocab_size) continue;
    return InvalidArgument(std::string(what) + " token " + std::to_string(token) +
                           " is outside the vocabulary of " + std::to_string(vocab_size));
  }
  return OkStatus();
}

Status CheckPrompt(const GroupRequest& request, const ModelConfig& config) {
  const auto num_prompt = static_cast<int64_t>(request.prompt_token_ids.size());
  if (num_prompt == 0) return InvalidArgument("the prompt is empty");
  if (num_prompt >= config.max_positions) {
    return MakeStatus(StatusCode::kOutOfRange,
                      "the prompt has " + std::to_string(num_prompt) + " tokens, the model has " +
                          std::to_string(config.max_positions) +
                          " positions and one of them must be left to sample");
  }
  return CheckTokens(request.prompt_token_ids, config.vocab_size, "prompt");
}

Status CheckTopLogprobs(const char* name, int32_t count) {
  if (count >= 0 && count <= kMaxTopLogprobs) return OkStatus();
  return InvalidArgument(std::string(name) + " is " + std::to_string(count) +
                         ", it must be in [0, " + std::to_string(kMaxTopLogprobs) + "]");
}

Status CheckDetails(const GroupRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckTopLogprobs("num_top_logprobs", request.num_top_logprobs));
  ROLLCALL_RETURN_IF_ERROR(
      CheckTopLogprobs("num_prompt_top_logprobs", request.num_prompt_top_logprobs));
  if (request.num_prompt_top_logprobs > 0 && !request.wants_prompt_logprobs) {
    return InvalidArgument("num_prompt_top_logprobs needs wants_prompt_logprobs");
  }
  return OkStatus();
}

// A search has no use for what samples can be asked for; silence would be misunderstood.
Status CheckSearchAlone(const GroupRequest& request) {
  const SamplingLaw& law = request.law;
  const std::pair<bool, const char*> settings[] = {
      {law.temperature != 1.0, "a temperature other than 1"},
      {law.truncates(), "top_k, top_p or min_p"},
      {law.has_penalties(), "penalties"},
      {!law.logit_bias.empty(), "a logit bias"},
      {!law.allowed_token_ids.empty() || !law.banned_token_ids.empty(), "allowed or banned tokens"},
      {law.min_new_tokens > 0, "min_new_tokens"},
      {request.grammar != nullptr, "a grammar"},
      {request.make_stop_watcher != nullptr, "stop strings"},
      {request.is_streaming, "streaming"},
      {request.num_top_logprobs > 0, "num_top_logprobs"},
      {request.wants_kept_sets, "kept sets"},
      {request.heavy_hitters.is_on(), "a KV budget"},
      {!request.started.empty(), "started completions"}};
  for (const auto& [is_set, name] : settings) {
    if (is_set) return InvalidArgument(std::string("a beam search has no ") + name);
  }
  return OkStatus();
}

Status CheckBeamSearch(const GroupRequest& request, const ModelConfig& config) {
  if (!request.beam_search) return OkStatus();
  ROLLCALL_RETURN_IF_ERROR(CheckBeamOptions(*request.beam_search));
  const int32_t num_beams = request.beam_search->num_beams;
  if (static_cast<size_t>(num_beams) < request.stream_keys.size()) {
    return InvalidArgument(std::to_string(num_beams) + " beams cannot give " +
                           std::to_string(request.stream_keys.size()) + " sequences");
  }
  if (num_beams > config.vocab_size) {
    return InvalidArgument(std::to_string(num_beams) + " beams are more than the vocabulary of " +
                           std::to_string(config.vocab_size));
  }
  if (request.stop_token_ids.size() > kMaxBeamStopTokens) {
    return InvalidArgument("a beam search has at most " + std::to_string(kMaxBeamStopTokens) +
                           " stop tokens, not " + std::to_string(request.stop_token_ids.size()));
  }
  return CheckSearchAlone(request);
}

// Places in the KV memory that one sequence of the group takes at most.
int32_t MaxSlots(const GroupRequest& request, const ModelConfig& config) {
  const int32_t max_tokens = MaxTokens(request, config);
  if (!request.heavy_hitters.is_on()) return max_tokens;
  const auto num_prompt = static_cast<int32_t>(request.prompt_token_ids.size());
  return std::min(max_tokens, std::max(num_prompt, request.heavy_hitters.budget() + 1));
}

Status CheckStarted(const GroupRequest& request, const StartedCompletion& started,
                    const ModelConfig& config) {
  const size_t size = started.token_ids.size();
  if (started.behavior_logprobs.size() != size || started.policy_versions.size() != size ||
      (!started.model_logprobs.empty() && started.model_logprobs.size() != size)) {
    return InvalidArgument(
        "a started completion has one log-probability and one policy version per token");
  }
  if (request.wants_kept_sets) {
    ROLLCALL_RETURN_IF_ERROR(
        CheckKeptSets(started.kept_sets, static_cast<int64_t>(size), config.vocab_size));
    if (started.kept_masses.size() != size) {
      return InvalidArgument("a started completion has one kept mass per token");
    }
  }
  if (request.grammar != nullptr) {
    GrammarState state(request.grammar);
    for (const int32_t token : started.token_ids) ROLLCALL_RETURN_IF_ERROR(state.Advance(token));
  }
  if (request.prompt_token_ids.size() + size >= static_cast<size_t>(MaxTokens(request, config))) {
    return InvalidArgument("a started completion of " + std::to_string(size) +
                           " tokens leaves no token to sample");
  }
  return CheckTokens(started.token_ids, config.vocab_size, "completion");
}

}  // namespace

int32_t MaxTokens(const GroupRequest& request, const ModelConfig& config) {
  return static_cast<int32_t>(std::min<int64_t>(
      static_cast<int64_t>(request.prompt_token_ids.size()) + request.max_new_tokens,
      config.max_positions));
}

Status Engine::CheckGroup(const GroupRequest& request) const {
  ROLLCALL_RETURN_IF_ERROR(CheckSamplingLaw(request.law, config_.vocab_size));
  if (request.grammar != nullptr && request.grammar->vocab_size() != config_.vocab_size) {
    return InvalidArgument("the grammar is for a vocabulary of " +
                           std::to_string(request.grammar->vocab_size()) + ", the model has " +
                           std::to_string(config_.vocab_size));
  }
  if (request.stream_keys.empty()) return InvalidArgument("the group has no samples");
  if (request.max_new_tokens < 1) {
    return InvalidArgument("max_new_tokens is " + std::to_string(request.max_new_tokens) +
                           ", it must be at least 1");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckPrompt(request, config_));
  ROLLCALL_RETURN_IF_ERROR(CheckDetails(request));
  ROLLCALL_RETURN_IF_ERROR(CheckBeamSearch(request, config_));
  ROLLCALL_RETURN_IF_ERROR(CheckKvBudget(request.heavy_hitters, config_));
  const int32_t max_slots = MaxSlots(request, config_);
  if (cache_.BlocksFor(max_slots) > cache_.num_blocks()) {
    return ResourceExhausted("a sequence of " + std::to_string(max_slots) + " tokens needs " +
                             std::to_string(cache_.BlocksFor(max_slots)) +
                             " KV blocks, the cache has " + std::to_string(cache_.num_blocks()) +
                             "; raise --kv-cache-mib or lower max_new_tokens");
  }
  if (!request.started.empty() && request.started.size() != request.stream_keys.size()) {
    return InvalidArgument(std::to_string(request.started.size()) + " started completions for " +
                           std::to_string(request.stream_keys.size()) + " samples");
  }
  for (const StartedCompletion& started : request.started) {
    ROLLCALL_RETURN_IF_ERROR(CheckStarted(request, started, config_));
  }
  return OkStatus();
}

}  // namespace rollcall
