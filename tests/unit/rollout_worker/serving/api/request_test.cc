// Bodies of requests: what is read, and what is said of what is wrong.
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/serving/api/chat_request.h"
#include "rollout_worker/serving/api/completion_request.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

CompletionRequest Parse(const std::string& body) {
  ApiResult<CompletionRequest> parsed = ParseCompletionRequest(body);
  INFO((parsed.ok() ? "" : parsed.error().message));
  REQUIRE(parsed.ok());
  return *parsed;
}

std::string FieldAtFault(const std::string& body) {
  const ApiResult<CompletionRequest> parsed = ParseCompletionRequest(body);
  if (parsed.ok()) return "(none)";
  CHECK(parsed.error().status == 400);
  CHECK_FALSE(parsed.error().message.empty());
  return parsed.error().param;
}

TEST_CASE("ParseCompletionRequest: defaults are OpenAI's") {
  const CompletionRequest request = Parse(R"({"prompt": "a"})");
  CHECK(request.prompts.size() == 1);
  CHECK(request.prompts[0].text == "a");
  CHECK(request.sampling.max_tokens == 16);
  CHECK(request.sampling.n == 1);
  CHECK(request.best_of == 1);
  CHECK_FALSE(request.sampling.temperature);
  CHECK_FALSE(request.sampling.seed);
  CHECK_FALSE(request.num_logprobs);
  CHECK(request.sampling.skip_special_tokens);
  CHECK(request.unknown_fields.empty());
}

TEST_CASE("ParseCompletionRequest: prompts are texts, tokens, or lists of either") {
  CHECK(Parse(R"({"prompt": ["a", "b"]})").prompts.size() == 2);
  const CompletionRequest tokens = Parse(R"({"prompt": [1, 2, 3]})");
  REQUIRE(tokens.prompts.size() == 1);
  CHECK(tokens.prompts[0].token_ids == std::vector<int32_t>{1, 2, 3});
  const CompletionRequest mixed = Parse(R"({"prompt": [[1], "x", [2, 3]]})");
  REQUIRE(mixed.prompts.size() == 3);
  CHECK(mixed.prompts[0].is_tokens);
  CHECK_FALSE(mixed.prompts[1].is_tokens);
  for (const char* wrong : {"{}", "1", "[]", "[1, \"a\"]", "[1.5]", "[-1]", "[4294967296]",
                            "[[\"a\"]]", "[null]", "null"}) {
    INFO(wrong);
    CHECK(FieldAtFault(std::string("{\"prompt\": ") + wrong + "}") == "prompt");
  }
}

TEST_CASE("ParseCompletionRequest: every setting is read") {
  const CompletionRequest request = Parse(R"({
    "model": "m", "prompt": "a", "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
    "repetition_penalty": 1.2, "presence_penalty": -1, "frequency_penalty": 2,
    "logit_bias": {"5": -100, "7": 1.5}, "allowed_token_ids": [5, 7], "n": 2, "best_of": 3,
    "max_tokens": 9, "min_tokens": 2, "stop": "x", "stop_token_ids": [4], "ignore_eos": true,
    "include_stop_str_in_output": true, "skip_special_tokens": false, "seed": -1, "priority": -3,
    "user": "u", "cache_salt": "s", "return_token_ids": true, "return_behavior_logprobs": true,
    "prompt_logprobs": 0, "logprobs": 4, "echo": true, "add_special_tokens": false,
    "guided_regex": "a+"})");
  const SamplingFields& sampling = request.sampling;
  CHECK(request.model == "m");
  CHECK(sampling.temperature == 0.5);
  CHECK(sampling.top_p == 0.9);
  CHECK(sampling.top_k == 40);
  CHECK(sampling.min_p == 0.1);
  CHECK(sampling.repetition_penalty == 1.2);
  CHECK(sampling.presence_penalty == -1);
  CHECK(sampling.frequency_penalty == 2);
  CHECK(sampling.logit_bias == std::vector<std::pair<int32_t, double>>{{5, -100}, {7, 1.5}});
  CHECK(sampling.allowed_token_ids == std::vector<int32_t>{5, 7});
  CHECK(sampling.n == 2);
  CHECK(request.best_of == 3);
  CHECK(sampling.max_tokens == 9);
  CHECK(sampling.min_tokens == 2);
  CHECK(sampling.stop == std::vector<std::string>{"x"});
  CHECK(sampling.stop_token_ids == std::vector<int32_t>{4});
  CHECK(sampling.ignore_eos);
  CHECK(sampling.include_stop_str_in_output);
  CHECK_FALSE(sampling.skip_special_tokens);
  CHECK(sampling.seed == ~uint64_t{0});
  CHECK(sampling.priority == -3);
  CHECK(sampling.user == "u");
  CHECK(sampling.cache_salt == "s");
  CHECK(sampling.return_token_ids);
  CHECK(sampling.return_behavior);
  CHECK(sampling.prompt_logprobs == 0);
  CHECK(request.num_logprobs == 4);
  CHECK(request.is_echo);
  CHECK_FALSE(request.adds_special_tokens);
  CHECK(sampling.constraint.kind == OutputConstraint::Kind::kRegex);
  CHECK(sampling.constraint.text == "a+");
  CHECK(request.unknown_fields.empty());
}

TEST_CASE("ParseCompletionRequest: a beam search is spelled as vLLM's was") {
  CHECK_FALSE(Parse(R"({"prompt": "a", "best_of": 4})").sampling.beam_search);
  const CompletionRequest plain = Parse(R"({"prompt": "a", "n": 3, "use_beam_search": true})");
  REQUIRE(plain.sampling.beam_search);
  CHECK(plain.sampling.beam_search->num_beams == 3);
  CHECK(plain.sampling.beam_search->length_penalty == 1);
  CHECK(plain.sampling.beam_search->early_stopping == BeamOptions::EarlyStopping::kHeuristic);
  const CompletionRequest full = Parse(R"({"prompt": "a", "n": 2, "best_of": 5,
    "use_beam_search": true, "length_penalty": -0.5, "early_stopping": "never"})");
  CHECK(full.best_of == 2);  // what comes out of the search is shown
  CHECK(full.sampling.beam_search->num_beams == 5);
  CHECK(full.sampling.beam_search->length_penalty == -0.5);
  CHECK(full.sampling.beam_search->early_stopping == BeamOptions::EarlyStopping::kNever);
  CHECK(Parse(R"({"prompt": "a", "use_beam_search": true, "early_stopping": true})")
            .sampling.beam_search->early_stopping == BeamOptions::EarlyStopping::kAtOnce);
}

TEST_CASE("ParseCompletionRequest: the field at fault is named") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("temperature": -0.1)", "temperature"},
      {R"("temperature": "1")", "temperature"},
      {R"("temperature": [1])", "temperature"},
      {R"("top_p": 0)", "top_p"},
      {R"("top_p": 1.01)", "top_p"},
      {R"("top_k": -2)", "top_k"},
      {R"("top_k": 1.5)", "top_k"},
      {R"("min_p": 1)", "min_p"},
      {R"("presence_penalty": 2.1)", "presence_penalty"},
      {R"("logit_bias": {"a": 1})", "logit_bias"},
      {R"("logit_bias": {"1": 101})", "logit_bias"},
      {R"("logit_bias": {"1": "x"})", "logit_bias"},
      {R"("logit_bias": [1])", "logit_bias"},
      {R"("allowed_token_ids": [])", "allowed_token_ids"},
      {R"("n": 0)", "n"},
      {R"("n": 129)", "n"},
      {R"("n": 2, "best_of": 1)", "best_of"},
      {R"("n": 1, "best_of": 2, "stream": true)", "best_of"},
      {R"("max_tokens": 0)", "max_tokens"},
      {R"("stop": [""])", "stop"},
      {R"("stop": 1)", "stop"},
      {R"("stop_token_ids": "a")", "stop_token_ids"},
      {R"("logprobs": 21)", "logprobs"},
      {R"("suffix": "s")", "suffix"},
      {R"("stream_options": {"include_usage": true})", "stream_options"},
      {R"("stream": true, "prompt_logprobs": 1)", "prompt_logprobs"},
      {R"("guided_regex": "a", "guided_json": {})", "guided_regex"},
      {R"("guided_json": 1)", "guided_json"},
      {R"("response_format": {"type": "json_schema"})", "response_format"},
      {R"("response_format": {})", "response_format"},
      {R"("structured_outputs": {"grammar": "x"})", "structured_outputs"},
      {R"("use_beam_search": true, "stream": true)", "use_beam_search"},
      {R"("use_beam_search": true, "n": 3, "best_of": 2)", "best_of"},
      {R"("use_beam_search": true, "best_of": 65)", "best_of"},
      {R"("use_beam_search": true, "n": 65)", "best_of"},
      {R"("use_beam_search": true, "length_penalty": 11)", "length_penalty"},
      {R"("use_beam_search": true, "early_stopping": "soon")", "early_stopping"},
      {R"("length_penalty": 2)", "length_penalty"},
      {R"("early_stopping": true)", "early_stopping"},
      {R"("kv_budget": 5)", "kv_budget"},
      {R"("kv_budget": {"num_heavy": 5})", "kv_budget"},
      {R"("kv_budget": {"num_heavy": 5, "num_recent": 0})", "kv_budget"},
      {R"("kv_budget": {"num_heavy": 5, "num_recent": 5, "num_light": 1})", "kv_budget"},
      {R"("stream": "yes")", "stream"},
      {R"("user": 7)", "user"},
  };
  for (const auto& [fields, field] : cases) {
    INFO(fields);
    CHECK(FieldAtFault("{\"prompt\": \"a\", " + fields + "}") == field);
  }
}

TEST_CASE("ParseCompletionRequest: null means absent, 3.0 means 3, what is unknown is listed") {
  const CompletionRequest request =
      Parse(R"({"prompt": "a", "temperature": null, "n": 2.0, "b": 1, "a": {}})");
  CHECK_FALSE(request.sampling.temperature);
  CHECK(request.sampling.n == 2);
  CHECK(request.unknown_fields == std::vector<std::string>{"b", "a"});
}

TEST_CASE("ParseCompletionRequest: what is no JSON object is refused") {
  for (const std::string& body : {std::string(""), std::string("{"), std::string("[]"),
                                  std::string("\"a\""), std::string("{\"prompt\": \"\xff\"}"),
                                  std::string(100000, '['), std::string("{\"prompt\": \"a\"} x")}) {
    CHECK_FALSE(ParseCompletionRequest(body).ok());
  }
}

TEST_CASE("ParseCompletionRequest: response_format becomes a constraint") {
  const auto constraint = [](const std::string& format) {
    return Parse(R"({"prompt": "a", "response_format": )" + format + "}").sampling.constraint;
  };
  CHECK(constraint(R"({"type": "text"})").kind == OutputConstraint::Kind::kNone);
  CHECK(constraint(R"({"type": "json_object"})").kind == OutputConstraint::Kind::kJsonObject);
  const OutputConstraint schema = constraint(
      R"({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}})");
  CHECK(schema.kind == OutputConstraint::Kind::kJsonSchema);
  CHECK(schema.text == R"({"type":"integer"})");
  CHECK(schema.field == "response_format");
  const OutputConstraint regex =
      Parse(R"({"prompt": "a", "structured_outputs": {"regex": "a+"}})").sampling.constraint;
  CHECK(regex.kind == OutputConstraint::Kind::kRegex);
  CHECK(regex.text == "a+");
  CHECK(regex.field == "structured_outputs.regex");
}

TEST_CASE("ParseChatRequest: messages are made ready for a template") {
  const auto parsed = ParseChatRequest(R"({
    "messages": [
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "2"}],
    "tools": [{"type": "function"}], "max_tokens": 5, "max_completion_tokens": 7,
    "logprobs": true, "top_logprobs": 3, "chat_template_kwargs": {"k": true}})");
  REQUIRE(parsed.ok());
  CHECK(parsed->messages[0]["content"] == "a\nb");
  CHECK(parsed->messages[1]["content"] == "");
  CHECK(parsed->messages[1]["tool_calls"][0]["function"]["arguments"]["x"] == 1);
  CHECK(parsed->tools.size() == 1);
  CHECK(parsed->sampling.max_tokens == 7);
  CHECK(parsed->num_logprobs == 3);
  CHECK(parsed->template_variables["k"] == true);
  CHECK(parsed->adds_generation_prompt);
}

TEST_CASE("ParseChatRequest: the field at fault is named") {
  const std::string messages = R"("messages": [{"role": "user", "content": "a"}])";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("model": "m")", "messages"},
      {R"("messages": [])", "messages"},
      {R"("messages": [{"role": "robot", "content": "a"}])", "messages"},
      {R"("messages": [{"role": "user", "content": [{"type": "image_url"}]}])", "messages"},
      {messages + R"(, "top_logprobs": 2)", "top_logprobs"},
      {messages + R"(, "tools": {})", "tools"},
      {messages + R"(, "tool_choice": "required")", "tool_choice"},
      {messages + R"(, "chat_template": "x")", "chat_template"},
      {messages + R"(, "continue_final_message": true, "add_generation_prompt": true)",
       "continue_final_message"},
      {messages + R"(, "max_tokens": 0)", "max_tokens"},
  };
  for (const auto& [fields, field] : cases) {
    INFO(fields);
    const auto parsed = ParseChatRequest("{" + fields + "}");
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().param == field);
  }
}

TEST_CASE("ErrorResponse: has OpenAI's shape, and tells when to try again") {
  const HttpResponse busy = ErrorResponse(ToApiError(ResourceExhausted("busy")));
  CHECK(busy.status == 429);
  CHECK(busy.headers.front() == std::pair<std::string, std::string>{"Retry-After", "1"});
  CHECK(
      busy.body ==
      R"({"error":{"message":"busy","type":"rate_limit_error","param":null,"code":"overloaded"}})");
  CHECK(ErrorJson(BadField("n", "no")) ==
        R"({"error":{"message":"no","type":"invalid_request_error","param":"n","code":400}})");
  CHECK(ToApiError(DeadlineExceeded("late")).status == 504);
  CHECK(ToApiError(Unavailable("away")).status == 503);
  CHECK(ToApiError(NotFound("what")).status == 404);
  CHECK(ToApiError(Internal("bug")).status == 500);
}

}  // namespace
}  // namespace rollcall
