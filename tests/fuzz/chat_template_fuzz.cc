// Chat templates: what parses renders a conversation, or says why not, within its limits; the spans
// of the assistant lie inside the text.
#include <string>

#include "services/common/template/chat_template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::fuzz::Require;
  // Far below the limits of real use, so that an input that loops ends within the time of one
  // input.
  rollcall::TemplateLimits limits;
  limits.max_steps = 100'000;
  limits.max_string_bytes = 1 << 20;
  limits.max_live_bytes = 16 << 20;
  const auto parsed = rollcall::ChatTemplate::Parse(std::string(rollcall::fuzz::Text(data, size)),
                                                    "fuzz", {{"bos_token", "<s>"}}, limits);
  if (!parsed.ok()) return 0;
  const auto rendered = parsed->Render(
      {.messages = R"([{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                       {"role": "assistant", "content": null, "tool_calls": [
                         {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
                       {"role": "tool", "content": "\u00e9 2.5"},
                       {"role": "assistant", "content": "Bye"}])",
       .tools = R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])",
       .documents = {},
       .variables = R"({"enable_thinking": true})",
       .add_generation_prompt = true,
       .now = rollcall::CivilTime{}});
  if (!rendered.ok()) return 0;
  for (const rollcall::ByteSpan& span : rendered->assistant_spans) {
    Require(span.begin <= span.end && span.end <= rendered->text.size());
  }
  return 0;
}
