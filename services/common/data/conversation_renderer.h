// What turns a conversation into the text that a model reads: its chat template.
#pragma once

#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/data/row_json.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {

struct RenderedConversation {
  std::string text;
  // Of the text: what assistant messages say, with what ends their turn; in order, without overlap.
  std::vector<ByteRange> assistant;
};

enum class ConversationEnding {
  kAsIs,
  kGenerationPrompt,  // the beginning of an assistant message follows
  kOpen,              // the last message goes on: what ends its turn is left out
};

// Thread-safe and immutable.
class ConversationRenderer {
 public:
  virtual ~ConversationRenderer() = default;
  // `messages` as ReadConversation() returns them, `tools` an array or null.
  virtual StatusOr<std::string> Render(const RowJson& messages, const RowJson& tools,
                                       ConversationEnding ending) const = 0;
  // Ending kAsIs, with what the assistant says; may cost a rendering for each message.
  virtual StatusOr<RenderedConversation> RenderMarked(const RowJson& messages,
                                                      const RowJson& tools) const = 0;
};

}  // namespace rollcall
