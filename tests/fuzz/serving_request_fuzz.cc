// Bodies of the HTTP API: what is accepted is within its bounds, what is not names an error that is
// JSON itself.
#include <nlohmann/json.hpp>

#include "rollout_worker/serving/api/chat_request.h"
#include "rollout_worker/serving/api/completion_request.h"
#include "tests/fuzz/fuzz.h"

namespace {

using rollcall::fuzz::Require;

void Check(const rollcall::SamplingFields& sampling) {
  Require(!sampling.temperature || (*sampling.temperature >= 0 && *sampling.temperature <= 100));
  Require(!sampling.top_p || (*sampling.top_p > 0 && *sampling.top_p <= 1));
  Require(!sampling.min_p || (*sampling.min_p >= 0 && *sampling.min_p < 1));
  Require(!sampling.top_k || *sampling.top_k >= 0);
  Require(sampling.n >= 1 && sampling.n <= rollcall::kMaxChoices);
  Require(!sampling.max_tokens || *sampling.max_tokens >= 0);
  for (const std::string& stop : sampling.stop) Require(!stop.empty());
  for (const int32_t token : sampling.stop_token_ids) Require(token >= 0);
  for (const auto& [token, bias] : sampling.logit_bias) {
    Require(token >= 0 && bias >= -100 && bias <= 100);
  }
}

void Check(const rollcall::ApiError& error) {
  Require(error.status >= 400 && !error.message.empty());
  Require(nlohmann::json::accept(rollcall::ErrorJson(error)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body = rollcall::fuzz::Text(data, size);
  const auto completion = rollcall::ParseCompletionRequest(body);
  if (completion.ok()) {
    Check(completion->sampling);
    Require(!completion->prompts.empty() && completion->best_of >= completion->sampling.n);
  } else {
    Check(completion.error());
  }
  const auto chat = rollcall::ParseChatRequest(body);
  if (chat.ok()) {
    Check(chat->sampling);
    for (const auto& message : chat->messages) Require(message["content"].is_string());
  } else {
    Check(chat.error());
  }
  const auto tokenize = rollcall::ParseTokenizeRequest(body);
  if (!tokenize.ok()) Check(tokenize.error());
  const auto detokenize = rollcall::ParseDetokenizeRequest(body);
  if (!detokenize.ok()) Check(detokenize.error());
  return 0;
}
