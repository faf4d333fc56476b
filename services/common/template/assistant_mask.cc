#include "services/common/template/assistant_mask.h"

#include <algorithm>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace rollcall {

std::vector<uint8_t> AssistantTokenMask(std::span<const ByteSpan> tokens,
                                        std::span<const ByteSpan> assistant_spans) {
  std::vector<uint8_t> mask(tokens.size(), 0);
  size_t span = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    while (span < assistant_spans.size() && tokens[i].begin >= assistant_spans[span].end) ++span;
    if (span == assistant_spans.size()) break;
    if (tokens[i].end > assistant_spans[span].begin) mask[i] = 1;
  }
  return mask;
}

StatusOr<RenderedChat> RenderWithAssistantSpans(const ChatTemplate& chat_template,
                                                const ChatInput& input) {
  if (chat_template.marks_assistant()) return chat_template.Render(input);
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<std::string> prefixes, chat_template.RenderPrefixes(input));
  // The messages are JSON: the rendering has checked it.
  const nlohmann::ordered_json messages = nlohmann::ordered_json::parse(input.messages);
  RenderedChat rendered;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto role = messages[i].find("role");
    if (role == messages[i].end() || *role != "assistant") continue;
    ByteSpan span{i == 0 ? 0 : prefixes[i - 1].size(), prefixes[i].size()};
    if (i > 0) {
      // The header of the turn is the prompt's part, as it is when the model is sampled.
      ChatInput before = input;
      const nlohmann::ordered_json head(std::vector<nlohmann::ordered_json>(
          messages.begin(), messages.begin() + static_cast<ptrdiff_t>(i)));
      const std::string head_text = head.dump();
      before.messages = head_text;
      before.add_generation_prompt = true;
      const StatusOr<RenderedChat> prompt = chat_template.Render(before);
      if (prompt.ok() && prefixes[i].starts_with(prompt->text) &&
          prompt->text.size() > span.begin) {
        span.begin = prompt->text.size();
      }
    }
    rendered.assistant_spans.push_back(span);
  }
  rendered.text = std::move(prefixes.back());
  return rendered;
}

}  // namespace rollcall
