#include "services/common/data/example.h"

#include <string>
#include <vector>

#include "services/common/data/conversation.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Strings = std::vector<std::string>;

RowJson Row(const std::string& json) { return RowJson::parse(json); }

StatusOr<Example> Read(ExampleKind kind, const std::string& json, const ColumnNames& columns = {}) {
  return ExampleReader(kind, columns).Read(Row(json));
}

std::string Refusal(ExampleKind kind, const std::string& json, const ColumnNames& columns = {}) {
  const auto example = Read(kind, json, columns);
  CHECK(example.status().code() == StatusCode::kInvalidArgument);
  return Message(example.status());
}

Strings Texts(const Example& example) {
  Strings texts;
  for (const Content& content : example.completions) {
    texts.push_back(content.is_conversation() ? content.messages.dump() : content.text);
  }
  return texts;
}

constexpr char kUser[] = R"({"role":"user","content":"u"})";
constexpr char kA[] = R"({"role":"assistant","content":"a"})";
constexpr char kB[] = R"({"role":"assistant","content":"b"})";
std::string List(const Strings& messages) {
  std::string list;
  for (const std::string& message : messages) list += (list.empty() ? "" : ",") + message;
  return "[" + list + "]";
}

TEST_CASE("ExampleReader: prompts", "[unit][data]") {
  REQUIRE_OK_AND_ASSIGN(const Example text, Read(ExampleKind::kPrompts, R"({"prompt": "p"})"));
  CHECK(text.prompt.text == "p");
  CHECK_FALSE(text.prompt.is_conversation());
  REQUIRE_OK_AND_ASSIGN(const Example verl,
                        Read(ExampleKind::kPrompts,
                             R"({"data_source": "gsm8k", "prompt": [{"role": "user", "content":
                             "q"}], "reward_model": {"style": "rule", "ground_truth": "7"},
                             "extra_info": {"index": 1}})"));
  CHECK(verl.prompt.messages.dump() == R"([{"role":"user","content":"q"}])");
  REQUIRE_OK_AND_ASSIGN(
      const Example nested,
      Read(ExampleKind::kPrompts, R"({"q": {"text": "deep"}})", {.prompt = "q.text"}));
  CHECK(nested.prompt.text == "deep");
}

TEST_CASE("ExampleReader: completions in three shapes", "[unit][data]") {
  const auto shape = [](const std::string& json, const ColumnNames& columns = {}) {
    REQUIRE_OK_AND_ASSIGN(const Example example, Read(ExampleKind::kCompletions, json, columns));
    return example.shape;
  };
  const std::string messages = R"("messages": )" + List({kUser, kA});
  CHECK(shape(R"({"prompt": "p", "completion": "c"})") == ExampleShape::kCompletion);
  CHECK(shape("{" + messages + "}") == ExampleShape::kMessages);
  CHECK(shape(R"({"text": "t"})") == ExampleShape::kText);
  // A prompt beside the messages is a copy of their first.
  CHECK(shape(R"({"prompt": "p", )" + messages + "}") == ExampleShape::kMessages);
  // What is named is meant.
  CHECK(shape(R"({"prompt": "p", "completion": "c", )" + messages + "}",
              {.messages = "messages"}) == ExampleShape::kMessages);
  CHECK(shape(R"({"prompt": "p", "completion": "c", "body": "t"})", {.text = "body"}) ==
        ExampleShape::kText);
}

TEST_CASE("ExampleReader: pairs with their prompt", "[unit][data]") {
  REQUIRE_OK_AND_ASSIGN(
      const Example text,
      Read(ExampleKind::kPairs, R"({"prompt": "p", "chosen": "c", "rejected": "r"})"));
  CHECK(text.shape == ExampleShape::kPair);
  CHECK(Texts(text) == Strings{"c", "r"});
  REQUIRE_OK_AND_ASSIGN(
      const Example chat,
      Read(ExampleKind::kPairs, R"({"prompt": )" + List({kUser}) + R"(, "chosen": )" + List({kA}) +
                                    R"(, "rejected": )" + List({kB}) + "}"));
  CHECK(chat.prompt.messages.size() == 1);
  CHECK(Texts(chat) == Strings{List({kA}), List({kB})});
}

TEST_CASE("ExampleReader: pairs whose prompt is what both begin with", "[unit][data]") {
  const auto text = [](const std::string& chosen, const std::string& rejected) {
    REQUIRE_OK_AND_ASSIGN(
        const Example example,
        Read(ExampleKind::kPairs,
             R"({"chosen": ")" + chosen + R"(", "rejected": ")" + rejected + R"("})"));
    CHECK(example.shape == ExampleShape::kImplicitPair);
    return Strings{example.prompt.text, example.completions[0].text, example.completions[1].text};
  };
  CHECK(text("The sky is blue.", "The sky is green.") ==
        Strings{"The sky is", " blue.", " green."});
  CHECK(text("ab", "abc") == Strings{"ab", "", "c"});
  // Characters are not cut: these two differ in their second byte.
  CHECK(text("x\xC3\xA4", "x\xC3\xB6") == Strings{"x", "\xC3\xA4", "\xC3\xB6"});

  const auto chat = [](const Strings& chosen, const Strings& rejected, const std::string& more) {
    return Read(ExampleKind::kPairs, "{" + more + R"("chosen": )" + List(chosen) +
                                         R"(, "rejected": )" + List(rejected) + "}");
  };
  REQUIRE_OK_AND_ASSIGN(const Example pair, chat({kUser, kA}, {kUser, kB}, ""));
  CHECK(pair.prompt.messages.dump() == List({kUser}));
  CHECK(Texts(pair) == Strings{List({kA}), List({kB})});
  // The prompt as a text is a copy for people.
  REQUIRE_OK_AND_ASSIGN(const Example copy, chat({kUser, kA}, {kUser, kB}, R"("prompt": "u", )"));
  CHECK(copy.shape == ExampleShape::kImplicitPair);
  CHECK(Texts(copy) == Strings{List({kA}), List({kB})});
  // Equal conversations keep their last message.
  REQUIRE_OK_AND_ASSIGN(const Example equal, chat({kUser, kA}, {kUser, kA}, ""));
  CHECK(Texts(equal) == Strings{List({kA}), List({kA})});
  CHECK(Message(chat({kA, kUser}, {kB, kUser}, "").status()).find("the row has no prompt") !=
        std::string::npos);
}

TEST_CASE("ExampleReader: ranked completions come best first", "[unit][data]") {
  const auto ranked = [](const std::string& more) {
    return Read(ExampleKind::kPairs,
                R"({"prompt": "p", "completions": ["x", "y", "z"])" + more + "}");
  };
  REQUIRE_OK_AND_ASSIGN(const Example as_given, ranked(""));
  CHECK(as_given.shape == ExampleShape::kRanked);
  CHECK(Texts(as_given) == Strings{"x", "y", "z"});
  REQUIRE_OK_AND_ASSIGN(const Example scored, ranked(R"(, "scores": [1, 3.5, 1])"));
  CHECK(Texts(scored) == Strings{"y", "x", "z"});
  CHECK(scored.ranking == std::vector<double>{3.5, 1, 1});
  REQUIRE_OK_AND_ASSIGN(const Example by_rank, ranked(R"(, "ranks": [3, 1, 2])"));
  CHECK(Texts(by_rank) == Strings{"y", "z", "x"});
  const auto refused = [&](const std::string& more) { return Message(ranked(more).status()); };
  CHECK(refused(R"(, "scores": [1, 2])") ==
        "field 'scores': expected a list of 3 numbers, one for each completion");
  CHECK(refused(R"(, "scores": [1, "2", 3])") ==
        "field 'scores': item 2 is not a number but string");
  CHECK(refused(R"(, "scores": [1, 2, 3], "ranks": [1, 2, 3])").starts_with("both 'ranks' and"));
  CHECK(Refusal(ExampleKind::kPairs, R"({"prompt": "p", "completions": ["x"]})") ==
        "field 'completions': expected a list of 2 to 256 completions, got 1");
  CHECK(Refusal(ExampleKind::kPairs, R"({"prompt": "p", "completions": ["x", []]})")
            .starts_with("field 'completions': completion 2: the list of messages is empty"));
  CHECK(Refusal(ExampleKind::kPairs, R"({"prompt": "p", "completions": ["x", )" + List({kA}) + "]}")
            .find("completion 2 and the prompt are not both") != std::string::npos);
}

TEST_CASE("ExampleReader: feedback", "[unit][data]") {
  const auto label = [](const std::string& value) {
    return Read(ExampleKind::kFeedback,
                R"({"prompt": "p", "completion": "c", "label": )" + value + "}");
  };
  CHECK(label("true")->label);
  CHECK_FALSE(label("false")->label);
  CHECK(Message(label("1").status()) == "field 'label' is not true or false but number");
  CHECK(Message(label("null").status()).starts_with("field 'label' is missing"));
}

TEST_CASE("ExampleReader: what is missing, and what the row would do for", "[unit][data]") {
  CHECK(Refusal(ExampleKind::kPrompts, R"({"question": "?"})") ==
        "field 'prompt' is missing; the row has question; other names are given by data.columns");
  CHECK(Refusal(ExampleKind::kPairs, R"({"prompt": "p", "completion": "c", "label": true})") ==
        "field 'chosen' and 'rejected' is missing; the row has prompt, completion, label, which is "
        "data.kind feedback or completions or prompts; other names are given by data.columns");
  CHECK(Refusal(ExampleKind::kCompletions, R"({"prompt": "p"})")
            .starts_with("field 'completion' is missing; the row has prompt, which is data.kind "
                         "prompts"));
  CHECK(Refusal(ExampleKind::kCompletions, R"({"x": 1})")
            .starts_with("data.kind completions needs the fields 'prompt' and 'completion', or "
                         "'messages', or 'text'"));
  CHECK(Refusal(ExampleKind::kPrompts, R"({"prompt": 5})") ==
        "field 'prompt' is neither a text nor a conversation but number");
  CHECK(Refusal(ExampleKind::kPrompts, R"({"prompt": ["a"]})") ==
        "field 'prompt' is neither a text nor a conversation but array");
  CHECK(Refusal(ExampleKind::kPrompts, R"({"prompt": []})") ==
        "field 'prompt': the list of messages is empty");
  CHECK(
      Refusal(ExampleKind::kCompletions, R"({"prompt": "p", "completion": )" + List({kA}) + "}") ==
      "the prompt and its completion are not both texts or both conversations");
}

TEST_CASE("ExampleReader: rows of two shapes are refused", "[unit][data]") {
  ExampleReader shapes(ExampleKind::kCompletions, {});
  REQUIRE_OK(shapes.Read(Row(R"({"prompt": "p", "completion": "c"})")).status());
  CHECK(Message(shapes.Read(Row(R"({"text": "t"})")).status()) ==
        "the row has the shape text, the rows before it prompt and completion; all rows must have "
        "one shape");
  ExampleReader forms(ExampleKind::kPrompts, {});
  REQUIRE_OK(forms.Read(Row(R"({"prompt": "p"})")).status());
  CHECK(Message(forms.Read(Row(R"({"prompt": )" + List({kUser}) + "}")).status()) ==
        "the row is a conversation, the rows before it are texts; all rows must have one shape");
}

TEST_CASE("ReadConversation: messages that are none are named", "[unit][data]") {
  const auto refused = [](const std::string& list) {
    return Message(ReadConversation(Row(list)).status());
  };
  CHECK(refused(List({kUser, R"({"role": "alien", "content": "x"})"}))
            .starts_with("message 2: unknown role 'alien'; expected system, developer, user"));
  CHECK(refused(R"([{"content": "x"}])").starts_with("message 1: 'role' is missing; expected"));
  CHECK(refused(R"([{"from": "human", "value": "x"}])").find("'from' and 'value'") !=
        std::string::npos);
  CHECK(refused(R"([{"role": "user"}])") == "message 1: 'content' is missing; expected a text");
  CHECK(refused(R"([{"role": "user", "content": 5}])") ==
        "message 1: 'content' is not a text but number");
  CHECK(refused(R"([{"role": 5, "content": "x"}])") ==
        "message 1: 'role' is not a text but number");
  CHECK(refused(R"([{"role": "user", "content": [{"type": "image", "url": "u"}]}])")
            .find("other media are not supported") != std::string::npos);
  CHECK(refused("[5]").starts_with("message 1: expected"));
  CHECK(refused("{}") == "expected a list of messages, got object");
  RowJson many = RowJson::array();
  for (int i = 0; i < 5000; ++i) many.push_back(Row(kUser));
  CHECK(Message(ReadConversation(many).status()) == "5000 messages, the limit is 4096");
}

TEST_CASE("ReadConversation: nulls that Parquet fills in are taken out", "[unit][data]") {
  REQUIRE_OK_AND_ASSIGN(
      const RowJson messages,
      ReadConversation(Row(R"([{"role": "assistant", "content": null, "name": null, "tool_calls":
      [{"function": {"name": "f", "arguments": {"a": 1, "b": null}}}]},
      {"role": "tool", "content": [{"type": "text", "text": "x"}], "tool_calls": null}])")));
  CHECK(messages.dump() ==
        R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},)"
        R"({"role":"tool","content":[{"type":"text","text":"x"}]}])");
}

TEST_CASE("ExampleReader: tools as a list or as its text", "[unit][data]") {
  const std::string prompt = R"({"prompt": )" + List({kUser}) + R"(, "tools": )";
  const std::string list = R"([{"type":"function","z":1,"a":2}])";
  for (const std::string& value :
       {list, R"("[{\"type\":\"function\",\"z\":1,\"a\":2}]")" + std::string()}) {
    REQUIRE_OK_AND_ASSIGN(const Example example, Read(ExampleKind::kPrompts, prompt + value + "}"));
    CHECK(example.tools.dump() == list);
  }
  CHECK(Read(ExampleKind::kPrompts, prompt + "[]}")->tools.is_null());
  CHECK(Read(ExampleKind::kPrompts, prompt + "null}")->tools.is_null());
  CHECK(Refusal(ExampleKind::kPrompts, prompt + "\"nonsense\"}") ==
        "field 'tools' is a text that is no JSON list");
  CHECK(Refusal(ExampleKind::kPrompts, prompt + "[5]}").find("a tool is an object") !=
        std::string::npos);
  // A plain row's column of that name is none of ours.
  CHECK(Read(ExampleKind::kPrompts, R"({"prompt": "p", "tools": 5})").ok());
}

TEST_CASE("KindsOfColumns: the most telling first", "[unit][data]") {
  using Kinds = std::vector<ExampleKind>;
  const auto kinds = [](const Strings& columns) { return KindsOfColumns(columns); };
  CHECK(kinds({"prompt", "answer"}) == Kinds{ExampleKind::kPrompts});
  CHECK(kinds({"prompt", "completion"}) == Kinds{ExampleKind::kCompletions, ExampleKind::kPrompts});
  CHECK(kinds({"prompt", "completion", "label"}) ==
        Kinds{ExampleKind::kFeedback, ExampleKind::kCompletions, ExampleKind::kPrompts});
  CHECK(kinds({"chosen", "rejected"}) == Kinds{ExampleKind::kPairs});
  CHECK(kinds({"messages"}) == Kinds{ExampleKind::kCompletions});
  CHECK(kinds({"question"}).empty());
}

}  // namespace
}  // namespace rollcall
