// Body of POST /v1/chat/completions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/sampling_fields.h"
#include "services/common/data/row_json.h"

namespace rollcall {

struct ChatRequest {
  std::string model;  // empty: the only one
  // As a chat template wants them: every content is a text (parts are joined by line breaks), and
  // arguments of tool calls are objects.
  RowJson messages;
  RowJson tools;               // a list, or null
  RowJson documents;           // a list, or null
  RowJson template_variables;  // an object, or null
  bool adds_generation_prompt = true;
  bool continues_final_message = false;
  bool adds_special_tokens = false;  // the template writes them
  std::optional<int32_t> num_logprobs;
  SamplingFields sampling;
  std::vector<std::string> unknown_fields;
};

ApiResult<ChatRequest> ParseChatRequest(std::string_view body);

}  // namespace rollcall
