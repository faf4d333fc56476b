#include "services/common/data/encode_example.h"

#include <memory>
#include <string>
#include <vector>

#include "services/common/data/conversation.h"
#include "tests/support/catch.h"
#include "tests/unit/common/data/plain_renderer.h"

namespace rollcall {
namespace {

using testing::PlainRenderer;

constexpr int32_t kEnd = 256;  // of the byte tokenizer

struct World {
  explicit World(PlainRenderer::Style style = PlainRenderer::Style::kPlain)
      : tokenizer(*ParseTokenizer(ByteTokenizerJson(), "tokenizer.json")), renderer(style) {}

  StatusOr<EncodedExample> Encode(ExampleKind kind, const std::string& json,
                                  bool with_renderer = true) const {
    ExampleReader reader(kind, {});
    ROLLCALL_ASSIGN_OR_RETURN(const Example example, reader.Read(RowJson::parse(json)));
    ExampleEncoding encoding{.tokenizer = *tokenizer};
    encoding.renderer = with_renderer ? &renderer : nullptr;
    encoding.why_no_renderer = "the model has no template";
    encoding.end_token = kEnd;
    return EncodeExample(example, encoding);
  }
  std::string Text(const std::vector<int32_t>& ids) const {
    return *tokenizer->Decode(ids, Tokenizer::Skip::kNothing);
  }
  // "+" before what trains, "-" before what does not.
  std::string Text(const TokenRuns& runs) const {
    std::string text;
    for (const TokenRun& run : runs) text += (run.trains ? "+" : "-") + Text(run.tokens);
    return text;
  }

  std::shared_ptr<const Tokenizer> tokenizer;
  PlainRenderer renderer;
};

constexpr char kChat[] =
    R"([{"role":"system","content":"s"},{"role":"user","content":"u"},
        {"role":"assistant","content":"a"},{"role":"user","content":"v"},
        {"role":"assistant","content":"b"}])";

TEST_CASE("EncodeExample: texts end in the end token and hold no control tokens", "[unit][data]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        world.Encode(ExampleKind::kCompletions,
                                     R"({"prompt": "p<|endoftext|>", "completion": "c"})"));
  CHECK(world.Text(row.prompt) == "p<|endoftext|>");
  CHECK(row.prompt.size() == 14);  // fourteen bytes, no token 256
  CHECK(row.completions == std::vector<TokenRuns>{{{{'c', kEnd}, true}}});
  REQUIRE_OK_AND_ASSIGN(
      const EncodedExample pair,
      world.Encode(ExampleKind::kPairs, R"({"prompt": "p", "chosen": "c", "rejected": ""})"));
  CHECK(pair.completions == std::vector<TokenRuns>{{{{'c', kEnd}, true}}, {{{kEnd}, true}}});
}

TEST_CASE("EncodeExample: a whole text trains from its second token on", "[unit][data]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        world.Encode(ExampleKind::kCompletions, R"({"text": "abc"})"));
  CHECK(row.prompt == std::vector<int32_t>{'a'});
  CHECK(row.completions == std::vector<TokenRuns>{{{{'b', 'c', kEnd}, true}}});
  CHECK(Message(world.Encode(ExampleKind::kCompletions, R"({"text": ""})").status()) ==
        "the text is empty");
}

TEST_CASE("EncodeExample: a prompt of messages ends where the assistant begins", "[unit][data]") {
  const World world;
  const auto prompt = [&](const std::string& messages) {
    REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                          world.Encode(ExampleKind::kPrompts, R"({"prompt": )" + messages + "}"));
    return world.Text(row.prompt);
  };
  CHECK(prompt(R"([{"role":"user","content":"u"}])") == "<user>u<|endoftext|><assistant>");
  CHECK(prompt(R"([{"role":"user","content":"u"},{"role":"assistant","content":"well"}])") ==
        "<user>u<|endoftext|><assistant>well");
  REQUIRE_OK_AND_ASSIGN(
      const EncodedExample row,
      world.Encode(ExampleKind::kPrompts, R"({"prompt": [{"role":"user","content":"u"}]})"));
  CHECK(row.prompt[7] == kEnd);  // the template's control token is one
}

TEST_CASE("EncodeExample: of a conversation the assistant's messages train", "[unit][data]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(
      const EncodedExample row,
      world.Encode(ExampleKind::kCompletions, R"({"messages": )" + std::string(kChat) + "}"));
  CHECK(world.Text(row.prompt) == "<system>s<|endoftext|><user>u<|endoftext|><assistant>");
  REQUIRE(row.completions.size() == 1);
  CHECK(world.Text(row.completions[0]) ==
        "+a<|endoftext|>-<user>v<|endoftext|><assistant>+b<|endoftext|>");
  CHECK(Message(world
                    .Encode(ExampleKind::kCompletions,
                            R"({"messages": [{"role":"user","content":"u"}]})")
                    .status()) == "no message of the assistant to train on");
}

TEST_CASE("EncodeExample: what follows the last message of the assistant is left out",
          "[unit][data]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        world.Encode(ExampleKind::kCompletions,
                                     R"({"messages": [{"role":"user","content":"u"},
                      {"role":"assistant","content":"a"}, {"role":"user","content":"bye"}]})"));
  CHECK(world.Text(row.completions[0]) == "+a<|endoftext|>");
}

TEST_CASE("EncodeExample: a conversational completion trains behind its prompt", "[unit][data]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        world.Encode(ExampleKind::kCompletions,
                                     R"({"prompt": [{"role":"user","content":"u"}],
                       "completion": [{"role":"assistant","content":"a"}]})"));
  CHECK(world.Text(row.prompt) == "<user>u<|endoftext|><assistant>");
  CHECK(world.Text(row.completions[0]) == "+a<|endoftext|>");
  REQUIRE_OK_AND_ASSIGN(const EncodedExample turns,
                        world.Encode(ExampleKind::kCompletions,
                                     R"({"prompt": [{"role":"user","content":"u"}],
                       "completion": [{"role":"assistant","content":"a"},
                                      {"role":"tool","content":"t"},
                                      {"role":"assistant","content":"b"}]})"));
  CHECK(world.Text(turns.completions[0]) ==
        "+a<|endoftext|>-<tool>t<|endoftext|><assistant>+b<|endoftext|>");
}

TEST_CASE("EncodeExample: both sides of a pair stand behind one prompt", "[unit][data]") {
  // This template opens a thought for a new message that given ones do not have.
  const World world(PlainRenderer::Style::kOpensThought);
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        world.Encode(ExampleKind::kPairs,
                                     R"({"chosen": [{"role":"user","content":"u"},
                                  {"role":"assistant","content":"<think>x"}],
                       "rejected": [{"role":"user","content":"u"},
                                    {"role":"assistant","content":"no"}]})"));
  CHECK(world.Text(row.prompt) == "<user>u<|endoftext|><assistant>");
  CHECK(world.Text(row.completions[0]) == "+<think>x<|endoftext|>");
  CHECK(world.Text(row.completions[1]) == "+no<|endoftext|>");
}

TEST_CASE("EncodeExample: a template that changes the prompt is refused", "[unit][data]") {
  const World world(PlainRenderer::Style::kCountsMessages);
  CHECK(Message(world
                    .Encode(ExampleKind::kCompletions,
                            R"({"prompt": [{"role":"user","content":"u"}],
                                 "completion": [{"role":"assistant","content":"a"}]})")
                    .status())
            .starts_with("the chat template changes the prompt"));
}

TEST_CASE("EncodeExample: refusals", "[unit][data]") {
  const World world;
  CHECK(Message(world.Encode(ExampleKind::kPrompts, R"({"prompt": ""})").status()) ==
        "the prompt is empty");
  CHECK(Message(world.Encode(ExampleKind::kCompletions, R"({"prompt": "", "completion": "c"})")
                    .status()) == "the prompt is empty");
  CHECK(Message(world
                    .Encode(ExampleKind::kPrompts, R"({"prompt": [{"role":"user","content":"u"}]})",
                            /*with_renderer=*/false)
                    .status()) == "the row is a conversation, and the model has no template");
  CHECK(
      Message(
          world.Encode(ExampleKind::kPrompts, R"({"prompt": [{"role":"developer","content":"u"}]})")
              .status()) == "chat template: no developers here");
}

// Merges "ab": a text whose cut lies inside of it is encoded in parts.
TEST_CASE("EncodeExample: no token lies across the prompt's end", "[unit][data]") {
  RowJson json = RowJson::parse(ByteTokenizerJson());
  json["model"]["vocab"]["ab"] = 256;
  json["added_tokens"][0]["id"] = 257;
  json["model"]["merges"] = RowJson::parse(R"([["a","b"]])");
  REQUIRE_OK_AND_ASSIGN(const auto tokenizer, ParseTokenizer(json.dump(), "tokenizer.json"));
  REQUIRE(*tokenizer->Encode("ab", Tokenizer::SpecialTokens::kAsText) == std::vector<int32_t>{256});
  ExampleReader reader(ExampleKind::kPairs, {});
  REQUIRE_OK_AND_ASSIGN(
      const Example example,
      reader.Read(RowJson::parse(R"({"prompt": "xa", "chosen": "bc", "rejected": "ab"})")));
  REQUIRE_OK_AND_ASSIGN(const EncodedExample row,
                        EncodeExample(example, {.tokenizer = *tokenizer}));
  CHECK(row.prompt == std::vector<int32_t>{'x', 'a'});
  CHECK(row.completions == std::vector<TokenRuns>{{{{'b', 'c'}, true}}, {{{256}, true}}});
}

}  // namespace
}  // namespace rollcall
