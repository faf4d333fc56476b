#include "services/common/data/template_renderer.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

constexpr char kMarked[] =
    "{%- for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<end>{% endgeneration %}{% else %}{{ m.content }}<end>{% endif %}"
    "{%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

RowJson Chat() {
  return RowJson::parse(R"([{"role": "user", "content": "\u00fc"},
                            {"role": "assistant", "content": "b"}])");
}

std::string Marked(const RenderedConversation& rendered) {
  std::string text;
  for (const ByteRange& range : rendered.assistant) {
    text += "[" + rendered.text.substr(range.begin, range.end - range.begin) + "]";
  }
  return text;
}

TEST_CASE("TemplateRenderer: endings and marks of a template", "[unit][data]") {
  const testing::TempDir dir;
  dir.Write("chat_template.jinja", kMarked);
  REQUIRE_OK_AND_ASSIGN(const auto renderer, LoadConversationRenderer(dir.path().string()));
  const RowJson none;
  CHECK(*renderer->Render(Chat(), none, ConversationEnding::kAsIs) ==
        "<user>\u00fc<end><assistant>b<end>");
  CHECK(*renderer->Render(Chat(), none, ConversationEnding::kGenerationPrompt) ==
        "<user>\u00fc<end><assistant>b<end><assistant>");
  CHECK(*renderer->Render(Chat(), none, ConversationEnding::kOpen) ==
        "<user>\u00fc<end><assistant>b");
  REQUIRE_OK_AND_ASSIGN(const RenderedConversation marked, renderer->RenderMarked(Chat(), none));
  CHECK(Marked(marked) == "[b<end>]");
}

TEST_CASE("TemplateRenderer: marks of a template that has none", "[unit][data]") {
  const testing::TempDir dir;
  dir.Write("chat_template.jinja",
            "{%- for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}");
  REQUIRE_OK_AND_ASSIGN(const auto renderer, LoadConversationRenderer(dir.path().string()));
  REQUIRE_OK_AND_ASSIGN(const RenderedConversation marked,
                        renderer->RenderMarked(Chat(), RowJson()));
  CHECK(Marked(marked) == "[b<end>]");
}

TEST_CASE("TemplateRenderer: tools, the date, and what is missing", "[unit][data]") {
  const testing::TempDir dir;
  const Status missing = LoadConversationRenderer(dir.path().string()).status();
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(Message(missing).find(dir.path().string()) != std::string::npos);
  dir.Write("chat_template.jinja",
            "{{ strftime_now('%d %b %Y') }}{% if tools %}{{ tools | tojson }}{% endif %}");
  REQUIRE_OK_AND_ASSIGN(const auto renderer, LoadConversationRenderer(dir.path().string()));
  CHECK(*renderer->Render(Chat(), RowJson(), ConversationEnding::kAsIs) == "26 Jul 2024");
  CHECK(*renderer->Render(Chat(), RowJson::parse(R"([{"z": 1, "a": 2}])"),
                          ConversationEnding::kAsIs) == R"(26 Jul 2024[{"z": 1, "a": 2}])");
}

}  // namespace
}  // namespace rollcall
