// Which tokens of a rendered chat the assistant said: what supervised training learns from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/chat_template.h"

namespace rollcall {

// 1 for every token that overlaps a span, else 0: the mask of transformers'
// return_assistant_tokens_mask. `tokens`: the bytes of the text that each token covers, in order.
std::vector<uint8_t> AssistantTokenMask(std::span<const ByteSpan> tokens,
                                        std::span<const ByteSpan> assistant_spans);

// The assistant's spans of a rendering, also for a template without {% generation %}: there, what
// each message of role "assistant" adds to the rendering of the messages before it, less the
// generation prompt when the addition begins with it. Exact is only the former; the latter counts
// the end-of-turn token of the message as the assistant's, and what the template puts behind it.
// kFailedPrecondition: a template that renders earlier messages anew when one is added, such as one
// that drops earlier reasoning.
StatusOr<RenderedChat> RenderWithAssistantSpans(const ChatTemplate& chat_template,
                                                const ChatInput& input);

}  // namespace rollcall
