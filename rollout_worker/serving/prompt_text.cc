#include "rollout_worker/serving/prompt_text.h"

#include <utility>

#include "rollout_worker/serving/reply_format.h"

namespace rollcall {
namespace {

CivilTime ToCivilTime(absl::Time time) {
  const absl::TimeZone::CivilInfo info = absl::LocalTimeZone().At(time);
  const absl::CivilSecond& civil = info.cs;
  return {.year = static_cast<int>(civil.year()),
          .month = civil.month(),
          .day = civil.day(),
          .hour = civil.hour(),
          .minute = civil.minute(),
          .second = civil.second(),
          .microsecond = static_cast<int>(absl::ToInt64Microseconds(info.subsecond))};
}

std::string OptionalJson(const RowJson& value) { return value.is_null() ? "" : Dump(value); }

}  // namespace

ApiResult<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const std::string& text,
                                             SpecialFrame frame) {
  constexpr auto kParse = Tokenizer::SpecialTokens::kParse;
  StatusOr<std::vector<int32_t>> tokens = frame == SpecialFrame::kAdded
                                              ? model.tokenizer->EncodeForModel(text, kParse)
                                              : model.tokenizer->Encode(text, kParse);
  if (!tokens.ok()) return BadField("prompt", "'prompt': " + Message(tokens.status()));
  return *std::move(tokens);
}

ApiResult<std::vector<int32_t>> PromptTokens(const ServedModel& model, const PromptInput& prompt,
                                             SpecialFrame frame) {
  if (prompt.is_tokens) return prompt.token_ids;
  return EncodePrompt(model, prompt.text, frame);
}

ApiResult<std::string> RenderChat(const ServedModel& model, const ChatRequest& request,
                                  absl::Time now) {
  if (model.chat_templates.empty()) {
    return BadField("messages", "the model '" + model.name +
                                    "' takes no chats: " + model.chat_template_problem);
  }
  const auto picked = model.chat_templates.Pick(
      "", request.tools.is_null() ? ChatTemplates::Tools::kNone : ChatTemplates::Tools::kSome);
  if (!picked.ok()) return BadField("messages", Message(picked.status()));
  const std::string messages = Dump(request.messages);
  const std::string tools = OptionalJson(request.tools);
  const std::string documents = OptionalJson(request.documents);
  const std::string variables = OptionalJson(request.template_variables);
  StatusOr<RenderedChat> rendered =
      (*picked)->Render({.messages = messages,
                         .tools = tools,
                         .documents = documents,
                         .variables = variables,
                         .add_generation_prompt = request.adds_generation_prompt,
                         .continue_final_message = request.continues_final_message,
                         .now = ToCivilTime(now)});
  if (!rendered.ok()) {
    return BadField("messages", "the chat template refuses: " + Message(rendered.status()));
  }
  return std::move(rendered->text);
}

}  // namespace rollcall
