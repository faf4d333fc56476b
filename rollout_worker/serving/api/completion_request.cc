#include "rollout_worker/serving/api/completion_request.h"

#include <utility>

#include "rollout_worker/serving/api/request_body.h"

namespace rollcall {
namespace {

void ReadPrompts(FieldReader& reader, std::vector<PromptInput>* prompts) {
  const RowJson* prompt = reader.Any("prompt");
  if (prompt == nullptr) return reader.Fail("prompt", "'prompt' is missing");
  const auto fail = [&] {
    prompts->clear();
    reader.Fail("prompt",
                "'prompt' must be a string, a list of strings, a list of token ids, or a list of "
                "lists of token ids");
  };
  if (prompt->is_string()) {
    prompts->push_back({.text = prompt->get<std::string>()});
    return;
  }
  if (!prompt->is_array()) return fail();
  if (prompt->empty()) return reader.Fail("prompt", "'prompt' is empty");
  if (prompt->front().is_number()) {
    auto tokens = ReadTokens(*prompt, kMaxPromptTokens);
    if (!tokens) return fail();
    prompts->push_back({.token_ids = *std::move(tokens), .is_tokens = true});
    return;
  }
  if (prompt->size() > kMaxPrompts) {
    return reader.Fail("prompt",
                       "'prompt' has more than " + std::to_string(kMaxPrompts) + " prompts");
  }
  for (const RowJson& item : *prompt) {
    if (item.is_string()) {
      prompts->push_back({.text = item.get<std::string>()});
      continue;
    }
    auto tokens = ReadTokens(item, kMaxPromptTokens);
    if (!tokens) return fail();
    prompts->push_back({.token_ids = *std::move(tokens), .is_tokens = true});
  }
}

}  // namespace

ApiResult<RowJson> ParseBody(std::string_view body) {
  StatusOr<RowJson> parsed = ParseRow(body);
  if (!parsed.ok()) return BadField("", "the body is wrong: " + Message(parsed.status()));
  return *std::move(parsed);
}

ApiResult<CompletionRequest> ParseCompletionRequest(std::string_view body) {
  ApiResult<RowJson> parsed = ParseBody(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(*parsed);
  CompletionRequest request;
  request.model = reader.Text("model", kMaxModelNameBytes).value_or("");
  ReadPrompts(reader, &request.prompts);
  request.sampling = ReadSamplingFields(reader);
  SamplingFields& sampling = request.sampling;
  request.adds_special_tokens = reader.Bool("add_special_tokens", true);
  request.is_echo = reader.Bool("echo", false);
  const int64_t least_tokens = request.is_echo ? 0 : 1;
  sampling.max_tokens =
      static_cast<int32_t>(reader.Integer("max_tokens", least_tokens, INT32_MAX).value_or(16));
  if (const auto count = reader.Integer("logprobs", 0, kMaxLogprobs)) {
    request.num_logprobs = static_cast<int32_t>(*count);
  }
  request.best_of =
      static_cast<int32_t>(reader.Integer("best_of", 1, kMaxChoices).value_or(sampling.n));
  if (request.best_of < sampling.n) {
    reader.Fail("best_of", "'best_of' must be at least 'n'");
  } else if (request.best_of > sampling.n && sampling.is_stream) {
    reader.Fail("best_of", "'best_of' greater than 'n' cannot be streamed");
  }
  // The other beams are not sampled: they end with the search.
  if (sampling.beam_search) request.best_of = sampling.n;
  if (const auto suffix = reader.Text("suffix", SIZE_MAX); suffix && !suffix->empty()) {
    reader.Fail("suffix", "'suffix' is not supported: the models here only continue a text");
  }
  if (sampling.is_stream && sampling.prompt_logprobs) {
    reader.Fail("prompt_logprobs", "'prompt_logprobs' cannot be streamed");
  }
  if (reader.error()) return *reader.error();
  request.unknown_fields = reader.UnknownFields();
  return request;
}

ApiResult<TokenizeRequest> ParseTokenizeRequest(std::string_view body) {
  ApiResult<RowJson> parsed = ParseBody(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(*parsed);
  TokenizeRequest request;
  request.model = reader.Text("model", kMaxModelNameBytes).value_or("");
  request.prompt = reader.Text("prompt", SIZE_MAX);
  request.adds_special_tokens = reader.Bool("add_special_tokens", request.prompt.has_value());
  request.returns_strings = reader.Bool("return_token_strs", false);
  if (!request.prompt && reader.Any("messages") == nullptr) {
    reader.Fail("prompt", "'prompt' or 'messages' is missing");
  }
  if (reader.error()) return *reader.error();
  return request;
}

ApiResult<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body) {
  ApiResult<RowJson> parsed = ParseBody(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(*parsed);
  DetokenizeRequest request;
  request.model = reader.Text("model", kMaxModelNameBytes).value_or("");
  if (auto tokens = reader.Tokens("tokens", kMaxPromptTokens)) {
    request.token_ids = *std::move(tokens);
  } else {
    reader.Fail("tokens", "'tokens' is missing");
  }
  if (reader.error()) return *reader.error();
  return request;
}

}  // namespace rollcall
