// Model directories, the choice of a template, and masks.
#include "services/common/template/chat_template.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "services/common/template/assistant_mask.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;
using Tools = ChatTemplates::Tools;

void Write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

StatusOr<std::string> RenderWith(const ChatTemplates& templates, std::string_view name,
                                 Tools tools) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto picked, templates.Pick(name, tools));
  ChatInput input;
  input.messages = R"([{"role": "user", "content": "hi"}])";
  ROLLCALL_ASSIGN_OR_RETURN(const RenderedChat chat, picked->Render(input));
  return chat.text;
}

void CheckRendering(const ChatTemplates& templates, std::string_view name, Tools tools,
                    const std::string& expected) {
  REQUIRE_OK_AND_ASSIGN(const std::string text, RenderWith(templates, name, tools));
  CHECK(text == expected);
}

TEST_CASE("A directory's templates come from its files before its config", "[unit][template]") {
  const TempDir dir;
  CHECK(LoadChatTemplates(dir.path().string()).status().code() == StatusCode::kNotFound);
  Write(dir.File("tokenizer_config.json"),
        R"({"bos_token": {"content": "<b>"}, "chat_template": "config {{ bos_token }}"})");
  Write(dir.File("special_tokens_map.json"), R"({"bos_token": "<other>", "eos_token": "<e>"})");
  REQUIRE_OK_AND_ASSIGN(ChatTemplates from_config, LoadChatTemplates(dir.path().string()));
  CheckRendering(from_config, "", Tools::kSome, "config <b>");
  Write(dir.File("chat_template.jinja"), "file {{ bos_token }}{{ eos_token }}");
  Write(dir.File("additional_chat_templates/tool_use.jinja"), "tools");
  REQUIRE_OK_AND_ASSIGN(ChatTemplates from_files, LoadChatTemplates(dir.path().string()));
  CheckRendering(from_files, "", Tools::kNone, "file <b><e>");
  CheckRendering(from_files, "", Tools::kSome, "tools");
  CheckRendering(from_files, "default", Tools::kSome, "file <b><e>");
  const auto unknown = from_files.Pick("rag", Tools::kNone);
  CHECK(Message(unknown.status()).find("default, tool_use") != std::string::npos);
}

TEST_CASE("A config may list templates by name; a malformed one is refused", "[unit][template]") {
  const TempDir dir;
  const std::string path = dir.File("tokenizer_config.json");
  Write(path, R"({"chat_template": [{"name": "default", "template": "D"},
                                    {"name": "tool_use", "template": "T"}]})");
  REQUIRE_OK_AND_ASSIGN(ChatTemplates templates, LoadChatTemplates(dir.path().string()));
  CheckRendering(templates, "", Tools::kSome, "T");
  CheckRendering(templates, "", Tools::kNone, "D");
  for (const char* text :
       {R"({"chat_template": 5})", R"({"chat_template": [{"name": "x"}]})", "[]", "{", "",
        R"({"bos_token": 3, "chat_template": "x"})", R"({"chat_template": "{% if %}"})"}) {
    INFO(text);
    Write(path, text);
    const auto loaded = LoadChatTemplates(dir.path().string());
    REQUIRE_FALSE(loaded.ok());
    CHECK(Message(loaded.status()).find("tokenizer_config.json") != std::string::npos);
  }
}

TEST_CASE("Input that is no conversation is refused", "[unit][template]") {
  REQUIRE_OK_AND_ASSIGN(const ChatTemplate parsed, ChatTemplate::Parse("{{ messages }}", "t", {}));
  for (const char* messages : {"", "[]", "{}", "[1]", "[{]", "[{\"a\": 99999999999999999999}]"}) {
    INFO(messages);
    ChatInput input;
    input.messages = messages;
    CHECK(parsed.Render(input).status().code() == StatusCode::kInvalidArgument);
  }
  const std::string deep = "[{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}]";
  ChatInput input;
  input.messages = deep;
  CHECK(Message(parsed.Render(input).status()).find("nested deeper") != std::string::npos);
}

TEST_CASE("A token that overlaps a span is the assistant's", "[unit][template]") {
  const std::vector<ByteSpan> tokens = {{0, 2}, {2, 5}, {5, 7}, {7, 7}, {7, 9}, {9, 12}};
  const std::vector<ByteSpan> spans = {{4, 6}, {8, 9}};
  CHECK(AssistantTokenMask(tokens, spans) == std::vector<uint8_t>{0, 1, 1, 0, 1, 0});
  CHECK(AssistantTokenMask(tokens, {}) == std::vector<uint8_t>(6, 0));
  CHECK(AssistantTokenMask({}, spans).empty());
}

constexpr const char* kTalk = R"([{"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"}, {"role": "user", "content": "?"},
    {"role": "assistant", "content": "!"}])";

TEST_CASE("Without marks a span is what an assistant message adds", "[unit][template]") {
  REQUIRE_OK_AND_ASSIGN(
      const ChatTemplate parsed,
      ChatTemplate::Parse("{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}"
                          "{{ '<assistant>' if add_generation_prompt }}",
                          "t", {}));
  CHECK_FALSE(parsed.marks_assistant());
  ChatInput input;
  input.messages = kTalk;
  REQUIRE_OK_AND_ASSIGN(const RenderedChat chat, RenderWithAssistantSpans(parsed, input));
  REQUIRE(chat.assistant_spans.size() == 2);
  const auto said = [&](size_t i) {
    return chat.text.substr(chat.assistant_spans[i].begin,
                            chat.assistant_spans[i].end - chat.assistant_spans[i].begin);
  };
  CHECK(said(0) == "yo;");
  CHECK(said(1) == "!;");
}

TEST_CASE("A template that renders earlier messages anew is refused without marks",
          "[unit][template]") {
  REQUIRE_OK_AND_ASSIGN(
      const ChatTemplate parsed,
      ChatTemplate::Parse(
          "{% for m in messages %}{{ m.content if loop.last else '-' }}{% endfor %}", "t", {}));
  ChatInput input;
  input.messages = kTalk;
  const auto chat = RenderWithAssistantSpans(parsed, input);
  CHECK(chat.status().code() == StatusCode::kFailedPrecondition);
  CHECK(Message(chat.status()).find("message 1 changes") != std::string::npos);
}

TEST_CASE("Marks count bytes where the text is not ASCII", "[unit][template]") {
  REQUIRE_OK_AND_ASSIGN(
      const ChatTemplate parsed,
      ChatTemplate::Parse("\xC3\xA9{% for m in messages %}{% if m.role == 'assistant' %}"
                          "{% generation %}\xE4\xBD\xA0{{ m.content }}{% endgeneration %}"
                          "{% else %}{{ m.content }}{% endif %}{% endfor %}",
                          "t", {}));
  CHECK(parsed.marks_assistant());
  ChatInput input;
  input.messages = kTalk;
  REQUIRE_OK_AND_ASSIGN(const RenderedChat chat, RenderWithAssistantSpans(parsed, input));
  REQUIRE(chat.assistant_spans.size() == 2);
  CHECK(chat.assistant_spans[0].begin == 4);
  CHECK(chat.assistant_spans[0].end == 9);
  CHECK(chat.text.substr(chat.assistant_spans[1].begin) == "\xE4\xBD\xA0!");
}

}  // namespace
}  // namespace rollcall
