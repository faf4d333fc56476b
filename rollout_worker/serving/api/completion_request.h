// Bodies of POST /v1/completions, /tokenize and /detokenize.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/sampling_fields.h"

namespace rollcall {

// A text, or the tokens themselves.
struct PromptInput {
  std::string text;
  std::vector<int32_t> token_ids;
  bool is_tokens = false;
};

struct CompletionRequest {
  std::string model;                 // empty: the only one
  std::vector<PromptInput> prompts;  // at least one
  bool adds_special_tokens = true;   // what the tokenizer puts around a text, such as BOS
  bool is_echo = false;              // the prompt is part of the text
  int32_t best_of = 1;               // sampled; the best n are shown
  std::optional<int32_t> num_logprobs;
  SamplingFields sampling;
  std::vector<std::string> unknown_fields;
};

inline constexpr size_t kMaxPrompts = 1024;

ApiResult<CompletionRequest> ParseCompletionRequest(std::string_view body);

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;  // else a conversation, as a chat request has it
  bool adds_special_tokens = true;
  bool returns_strings = false;
};
// A body with "messages" is for ParseChatRequest.
ApiResult<TokenizeRequest> ParseTokenizeRequest(std::string_view body);

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> token_ids;
};
ApiResult<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body);

}  // namespace rollcall
