#include "rollout_worker/serving/api/chat_request.h"

#include <utility>

#include "rollout_worker/serving/api/request_body.h"
#include "services/common/data/conversation.h"

namespace rollcall {
namespace {

// Joins the texts of content parts; ReadConversation checked that they are texts.
void FlattenContent(RowJson* message) {
  const auto content = message->find("content");
  if (content == message->end()) {
    (*message)["content"] = "";
    return;
  }
  if (!content->is_array()) return;
  std::string text;
  for (const RowJson& part : *content) {
    if (!text.empty()) text += "\n";
    text += part["text"].get<std::string>();
  }
  *content = std::move(text);
}

// OpenAI's arguments are a text that holds JSON; templates print objects.
void ParseArguments(RowJson* message) {
  const auto calls = message->find("tool_calls");
  if (calls == message->end() || !calls->is_array()) return;
  for (RowJson& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
    const auto arguments = call["function"].find("arguments");
    if (arguments == call["function"].end() || !arguments->is_string()) continue;
    StatusOr<RowJson> parsed = ParseRow(arguments->get_ref<const std::string&>());
    if (parsed.ok()) *arguments = *std::move(parsed);
  }
}

void ReadMessages(FieldReader& reader, RowJson* messages) {
  const RowJson* given = reader.Any("messages");
  if (given == nullptr) return reader.Fail("messages", "'messages' is missing");
  StatusOr<RowJson> read = ReadConversation(*given);
  if (!read.ok()) return reader.Fail("messages", "'messages': " + Message(read.status()));
  *messages = *std::move(read);
  for (RowJson& message : *messages) {
    FlattenContent(&message);
    ParseArguments(&message);
  }
}

RowJson ReadObjects(FieldReader& reader, std::string_view name) {
  const RowJson* list = reader.Any(name);
  if (list == nullptr || (list->is_array() && list->empty())) return {};
  if (!LooksLikeConversation(*list)) {
    reader.Fail(name, "'" + std::string(name) + "' must be a list of objects");
    return {};
  }
  return *list;
}

void ReadTools(FieldReader& reader, RowJson* tools) {
  *tools = ReadObjects(reader, "tools");
  const RowJson* choice = reader.Any("tool_choice");
  if (choice == nullptr || *choice == "auto") return;
  if (*choice == "none") {
    *tools = RowJson();
    return;
  }
  reader.Fail("tool_choice",
              "'tool_choice' must be \"auto\" or \"none\": a call cannot be forced here");
}

}  // namespace

ApiResult<ChatRequest> ParseChatRequest(std::string_view body) {
  ApiResult<RowJson> parsed = ParseBody(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(*parsed);
  ChatRequest request;
  request.model = reader.Text("model", kMaxModelNameBytes).value_or("");
  ReadMessages(reader, &request.messages);
  ReadTools(reader, &request.tools);
  request.documents = ReadObjects(reader, "documents");
  if (const RowJson* variables = reader.Object("chat_template_kwargs")) {
    request.template_variables = *variables;
  }
  if (reader.Any("chat_template") != nullptr) {
    reader.Fail("chat_template", "'chat_template' is not supported: the model brings its own");
  }
  request.continues_final_message = reader.Bool("continue_final_message", false);
  request.adds_generation_prompt =
      reader.Bool("add_generation_prompt", !request.continues_final_message);
  if (request.continues_final_message && request.adds_generation_prompt) {
    reader.Fail("continue_final_message",
                "'continue_final_message' needs 'add_generation_prompt': false");
  }
  request.adds_special_tokens = reader.Bool("add_special_tokens", false);
  request.sampling = ReadSamplingFields(reader);
  SamplingFields& sampling = request.sampling;
  // The older name gives way to the newer one.
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto count = reader.Integer(name, 1, INT32_MAX)) {
      sampling.max_tokens = static_cast<int32_t>(*count);
    }
  }
  const bool wants_logprobs = reader.Bool("logprobs", false);
  const auto num_top = reader.Integer("top_logprobs", 0, kMaxLogprobs);
  if (num_top && !wants_logprobs) {
    reader.Fail("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  }
  if (wants_logprobs) request.num_logprobs = static_cast<int32_t>(num_top.value_or(0));
  if (sampling.is_stream && sampling.prompt_logprobs) {
    reader.Fail("prompt_logprobs", "'prompt_logprobs' cannot be streamed");
  }
  reader.Skip({"parallel_tool_calls"});
  if (reader.error()) return *reader.error();
  request.unknown_fields = reader.UnknownFields();
  return request;
}

}  // namespace rollcall
