// Prompts of requests as the tokens that the model reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/chat_request.h"
#include "rollout_worker/serving/api/completion_request.h"
#include "rollout_worker/serving/served_model.h"

namespace rollcall {

// Special tokens in the text become their ids, as transformers' tokenizers do: who sends a raw
// prompt, or a chat template, writes them.
enum class SpecialFrame { kNone, kAdded };  // what the tokenizer puts around a text, such as BOS
ApiResult<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const std::string& text,
                                             SpecialFrame frame);

ApiResult<std::vector<int32_t>> PromptTokens(const ServedModel& model, const PromptInput& prompt,
                                             SpecialFrame frame);

// The conversation through the model's chat template. `now` is what strftime_now() tells.
ApiResult<std::string> RenderChat(const ServedModel& model, const ChatRequest& request,
                                  absl::Time now);

}  // namespace rollcall
