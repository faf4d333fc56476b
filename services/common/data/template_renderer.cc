#include "services/common/data/template_renderer.h"

#include <utility>

#include "services/common/template/assistant_mask.h"
#include "services/common/template/chat_template.h"

namespace rollcall {
namespace {

constexpr CivilTime kTemplateDate = {.year = 2024, .month = 7, .day = 26};

class TemplateRenderer : public ConversationRenderer {
 public:
  explicit TemplateRenderer(ChatTemplates templates) : templates_(std::move(templates)) {}

  StatusOr<std::string> Render(const RowJson& messages, const RowJson& tools,
                               ConversationEnding ending) const override {
    const Texts texts(messages, tools);
    ChatInput input = texts.Input();
    input.add_generation_prompt = ending == ConversationEnding::kGenerationPrompt;
    input.continue_final_message = ending == ConversationEnding::kOpen;
    ROLLCALL_ASSIGN_OR_RETURN(const auto chat_template, Pick(tools));
    ROLLCALL_ASSIGN_OR_RETURN(RenderedChat rendered, chat_template->Render(input));
    return std::move(rendered.text);
  }

  StatusOr<RenderedConversation> RenderMarked(const RowJson& messages,
                                              const RowJson& tools) const override {
    const Texts texts(messages, tools);
    ROLLCALL_ASSIGN_OR_RETURN(const auto chat_template, Pick(tools));
    ROLLCALL_ASSIGN_OR_RETURN(RenderedChat rendered,
                              RenderWithAssistantSpans(*chat_template, texts.Input()));
    RenderedConversation out;
    out.text = std::move(rendered.text);
    for (const ByteSpan& span : rendered.assistant_spans) {
      out.assistant.push_back({static_cast<uint32_t>(span.begin), static_cast<uint32_t>(span.end)});
    }
    return out;
  }

 private:
  // The JSON that a ChatInput points into.
  struct Texts {
    Texts(const RowJson& message_list, const RowJson& tool_list)
        : messages(message_list.dump()), tools(tool_list.is_array() ? tool_list.dump() : "") {}
    ChatInput Input() const { return {.messages = messages, .tools = tools, .now = kTemplateDate}; }
    const std::string messages;
    const std::string tools;
  };

  StatusOr<std::shared_ptr<const ChatTemplate>> Pick(const RowJson& tools) const {
    return templates_.Pick(
        "", tools.is_array() ? ChatTemplates::Tools::kSome : ChatTemplates::Tools::kNone);
  }

  const ChatTemplates templates_;
};

}  // namespace

StatusOr<std::unique_ptr<const ConversationRenderer>> LoadConversationRenderer(
    const std::string& model_directory) {
  ROLLCALL_ASSIGN_OR_RETURN(ChatTemplates templates, LoadChatTemplates(model_directory));
  return std::unique_ptr<const ConversationRenderer>(
      std::make_unique<TemplateRenderer>(std::move(templates)));
}

}  // namespace rollcall
