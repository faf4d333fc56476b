// A chat template in a few lines: "<user>hello<|endoftext|><assistant>hi<|endoftext|>".
#pragma once

#include <string>

#include "services/common/data/conversation.h"
#include "services/common/data/conversation_renderer.h"

namespace rollcall::testing {

class PlainRenderer : public ConversationRenderer {
 public:
  enum class Style {
    kPlain,
    kOpensThought,    // "<assistant><think>" is where a new message begins
    kCountsMessages,  // the text begins with their number
  };
  explicit PlainRenderer(Style style = Style::kPlain) : style_(style) {}

  StatusOr<std::string> Render(const RowJson& messages, const RowJson& tools,
                               ConversationEnding ending) const override {
    ROLLCALL_ASSIGN_OR_RETURN(RenderedConversation out, Write(messages, tools, ending));
    return out.text;
  }
  StatusOr<RenderedConversation> RenderMarked(const RowJson& messages,
                                              const RowJson& tools) const override {
    return Write(messages, tools, ConversationEnding::kAsIs);
  }

 private:
  StatusOr<RenderedConversation> Write(const RowJson& messages, const RowJson& tools,
                                       ConversationEnding ending) const {
    RenderedConversation out;
    if (style_ == Style::kCountsMessages) out.text += std::to_string(messages.size());
    if (tools.is_array()) out.text += "<tools>" + tools.dump();
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string role = messages[i].value("role", "");
      if (role == "developer") return InvalidArgument("no developers here");
      out.text += "<" + role + ">";
      const auto begin = static_cast<uint32_t>(out.text.size());
      out.text += messages[i].value("content", "");
      const bool is_open = ending == ConversationEnding::kOpen && i + 1 == messages.size();
      if (!is_open) out.text += "<|endoftext|>";
      if (IsAssistant(messages[i])) {
        out.assistant.push_back({begin, static_cast<uint32_t>(out.text.size())});
      }
    }
    if (ending == ConversationEnding::kGenerationPrompt) {
      out.text += style_ == Style::kOpensThought ? "<assistant><think>" : "<assistant>";
    }
    return out;
  }

  const Style style_;
};

}  // namespace rollcall::testing
