// Chat templates and expressions against transformers and its jinja2.
#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"
#include "services/common/template/assistant_mask.h"
#include "services/common/template/chat_template.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kScript = "tests/unit/common/template/reference_chat.py";
constexpr const char* kGolden = "tests/golden/chat_templates/";
// As the script sets the clock.
constexpr CivilTime kNow = {2025, 3, 7, 16, 5, 9, 1234};
const std::map<std::string, std::string> kTokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

std::vector<Json> RunReference(const std::string& mode) {
  const testing::TempDir dir;
  const std::string path = dir.File(mode);
  REQUIRE(testing::RunPython(kScript, mode + " " + path) == 0);
  std::ifstream file(path);
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(Json::parse(line));
  return rows;
}

// What went wrong on either side, on one line.
std::string Outcome(const StatusOr<RenderedChat>& chat) {
  return chat.ok() ? Json(chat->text).dump() : chat.status().ToString();
}

// Fails of a large set are counted, and the first ones shown.
class Tally {
 public:
  void Add(bool same, const std::string& what) {
    ++count_;
    if (same) return;
    if (++num_wrong_ <= 40) wrong_ += what + "\n";
  }
  void Check(size_t at_least) {
    CHECK(count_ >= at_least);
    INFO(wrong_);
    CHECK(num_wrong_ == 0);
  }

 private:
  size_t count_ = 0, num_wrong_ = 0;
  std::string wrong_;
};

// A conversation of the golden file as input; owns the texts that the input points to.
class Conversation {
 public:
  explicit Conversation(const Json& json)
      : messages_(TextOf(json, "messages")),
        tools_(TextOf(json, "tools")),
        documents_(TextOf(json, "documents")),
        variables_(TextOf(json, "variables")) {}

  ChatInput Input() const {
    ChatInput input;
    input.messages = messages_;
    input.tools = tools_;
    input.documents = documents_;
    input.variables = variables_;
    input.now = kNow;
    return input;
  }

 private:
  static std::string TextOf(const Json& json, const char* key) {
    return json.contains(key) ? json[key].dump() : std::string();
  }

  const std::string messages_, tools_, documents_, variables_;
};

Json Conversations() {
  return Json::parse(std::ifstream(std::string(kGolden) + "conversations.json"));
}

StatusOr<ChatTemplate> GoldenTemplate(const std::string& name) {
  ROLLCALL_ASSIGN_OR_RETURN(std::string source, ReadFile(kGolden + name, 1 << 20));
  return ChatTemplate::Parse(std::move(source), name, kTokens);
}

TEST_CASE("Chat templates render as transformers renders them", "[unit][template]") {
  if (!testing::HasPython("transformers, jinja2")) return;
  const Json conversations = Conversations();
  std::map<std::string, ChatTemplate> templates;
  Tally tally;
  size_t num_errors = 0;
  for (const Json& row : RunReference("chats")) {
    const std::string name = row["template"];
    if (!templates.contains(name)) {
      REQUIRE_OK_AND_ASSIGN(ChatTemplate parsed, GoldenTemplate(name));
      templates.emplace(name, std::move(parsed));
    }
    const Conversation conversation(conversations[row["conversation"].get<std::string>()]);
    ChatInput input = conversation.Input();
    input.add_generation_prompt = row["options"].value("add_generation_prompt", false);
    input.continue_final_message = row["options"].value("continue_final_message", false);
    const StatusOr<RenderedChat> chat = templates.at(name).Render(input);
    bool same = chat.ok() == row.contains("text");
    if (same && chat.ok()) {
      same = chat->text == row["text"].get<std::string>();
      Json spans = Json::array();
      for (const ByteSpan& span : chat->assistant_spans) spans.push_back({span.begin, span.end});
      if (!input.continue_final_message) same = same && spans == row["spans"];
    }
    num_errors += row.contains("error") ? 1 : 0;
    tally.Add(same, name + " " + row["conversation"].dump() + " " + row["options"].dump() +
                        "\n  is     " + Outcome(chat) + "\n  wanted " +
                        (row.contains("text") ? row["text"].dump() + " " + row["spans"].dump()
                                              : row["error"].dump()));
  }
  CHECK(templates.size() >= 25);
  CHECK(num_errors >= 100);
  tally.Check(1500);
}

TEST_CASE("Masks of assistant tokens are those of transformers", "[unit][template]") {
  if (!testing::HasPython("transformers, jinja2, tokenizers")) return;
  const Json conversations = Conversations();
  Tally tally;
  size_t num_ones = 0;
  for (const Json& row : RunReference("masks")) {
    REQUIRE_OK_AND_ASSIGN(const ChatTemplate parsed, GoldenTemplate(row["template"]));
    CHECK(parsed.marks_assistant());
    const Conversation conversation(conversations[row["conversation"].get<std::string>()]);
    REQUIRE_OK_AND_ASSIGN(const RenderedChat chat,
                          RenderWithAssistantSpans(parsed, conversation.Input()));
    std::vector<ByteSpan> tokens;
    for (const Json& offset : row["offsets"]) tokens.push_back({offset[0], offset[1]});
    const std::vector<uint8_t> mask = AssistantTokenMask(tokens, chat.assistant_spans);
    num_ones += static_cast<size_t>(std::count(mask.begin(), mask.end(), 1));
    tally.Add(chat.text == row["text"].get<std::string>() &&
                  mask == row["mask"].get<std::vector<uint8_t>>(),
              row["template"].dump() + " " + row["conversation"].dump());
  }
  CHECK(num_ones > 300);
  tally.Check(40);
}

TEST_CASE("Expressions and statements give what jinja2 gives", "[unit][template]") {
  if (!testing::HasPython("transformers, jinja2")) return;
  const std::vector<Json> rows = RunReference("expressions");
  const std::string variables = rows[0]["variables"].dump();
  ChatInput input;
  input.messages = R"([{"role": "user"}])";
  input.variables = variables;
  input.now = kNow;
  Tally tally;
  size_t num_refused = 0;
  for (size_t i = 1; i < rows.size(); ++i) {
    const Json& row = rows[i];
    const std::string source = row["source"];
    StatusOr<RenderedChat> chat = Internal("not rendered");
    const StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(source, "expression", {});
    chat = parsed.ok() ? parsed->Render(input) : StatusOr<RenderedChat>(parsed.status());
    // What is refused as unsupported is allowed to work in Python.
    const bool refused =
        !chat.ok() && (chat.status().code() == StatusCode::kUnimplemented ||
                       Message(chat.status()).find("64 bits") != std::string::npos ||
                       Message(chat.status()).find("support") != std::string::npos);
    if (refused && row.contains("text")) {
      ++num_refused;
      continue;
    }
    const bool same = chat.ok()
                          ? row.contains("text") && chat->text == row["text"].get<std::string>()
                          : row.contains("error");
    tally.Add(same, Json(source).dump() + "\n  is     " + Outcome(chat) + "\n  wanted " +
                        (row.contains("text") ? row["text"].dump() : row["error"].dump()));
  }
  CHECK(num_refused < rows.size() / 100);
  tally.Check(5000);
}

}  // namespace
}  // namespace rollcall
