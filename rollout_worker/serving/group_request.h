// From the fields of a request to what the engine takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rollout_worker/engine/types.h"
#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/sampling_fields.h"
#include "rollout_worker/serving/completion_text.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/served_model.h"

namespace rollcall {

struct GroupRequestOptions {
  int32_t num_samples = 1;
  int32_t num_top_logprobs = 0;
  bool wants_model_logprobs = false;
  bool wants_prompt_logprobs = false;
  int32_t num_prompt_top_logprobs = 0;
  // Where the samples' random streams begin when the request has no seed.
  uint64_t fallback_seed = 0;
};

// The engine's request for one prompt; group_id and model stay open. Errors name the field: a
// prompt that is empty, not of the vocabulary or, with max_tokens, longer than the model takes.
ApiResult<GroupRequest> MakeGroupRequest(const ServedModel& model, const SamplingFields& fields,
                                         std::vector<int32_t> prompt,
                                         const GroupRequestOptions& options);

// Gives all groups of the call the grammar of the request, or has the generator compile it; nothing
// happens when the request has none. The error of a grammar is kInvalidArgument.
void SetGrammar(const SamplingFields& fields, GenerationCall* call);

// Token ids that end a completion, and those of them that are not shown.
std::vector<int32_t> StopTokens(const ServedModel& model, const SamplingFields& fields);

// How the text of a completion is made.
CompletionTextOptions TextOptions(const ServedModel& model, const SamplingFields& fields);

}  // namespace rollcall
