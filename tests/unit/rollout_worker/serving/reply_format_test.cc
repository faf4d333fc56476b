// What an answer says of its prompt.
#include "rollout_worker/serving/reply_format.h"

#include <memory>
#include <vector>

#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::shared_ptr<const Tokenizer> Bytes() {
  REQUIRE_OK_AND_ASSIGN(auto tokenizer, ParseTokenizer(ByteTokenizerJson(), "bytes"));
  return tokenizer;
}

// Of the prompt "abc"; the model would rather have had "xbd".
PromptScores Scores() {
  return {.logprobs = {-0.5F, -3.0F},
          .ranks = {1, 7},
          .top_logprobs = {{{'b', -0.5F}, {'y', -1.5F}}, {{'d', -0.25F}, {'z', -2.0F}}}};
}

ChoiceOptions EchoOptions(const std::shared_ptr<const Tokenizer>& tokenizer) {
  ChoiceOptions options;
  options.text.tokenizer = tokenizer;
  options.num_logprobs = 1;
  return options;
}

}  // namespace

TEST_CASE("PromptLogprobsJson: vLLM's list, null first, the token before the alternatives",
          "[unit][serving]") {
  const auto tokenizer = Bytes();
  const std::vector<int32_t> prompt = {'a', 'b', 'c'};
  const auto entry = [](float logprob, int rank, const char* text) {
    return RowJson{{"logprob", logprob}, {"rank", rank}, {"decoded_token", text}};
  };
  CHECK(PromptLogprobsJson(*tokenizer, prompt, Scores(), 2) ==
        RowJson::array({nullptr,
                        {{"98", entry(-0.5F, 1, "b")}, {"121", entry(-1.5F, 2, "y")}},
                        {{"99", entry(-3.0F, 7, "c")},
                         {"100", entry(-0.25F, 1, "d")},
                         {"122", entry(-2.0F, 2, "z")}}}));
  // Alternatives that were computed for something else are not told.
  CHECK(PromptLogprobsJson(*tokenizer, prompt, Scores(), 0) ==
        RowJson::array({nullptr, RowJson::object({{"98", entry(-0.5F, 1, "b")}}),
                        RowJson::object({{"99", entry(-3.0F, 7, "c")}})}));
  CHECK(PromptLogprobsJson(*tokenizer, {'a'}, {}, 2) == RowJson::array({nullptr}));
}

TEST_CASE("Choice: an echo with log-probabilities goes on into the completion", "[unit][serving]") {
  const auto tokenizer = Bytes();
  Choice choice(EchoOptions(tokenizer));
  ChoicePiece piece = choice.Echo("abc", {'a', 'b', 'c'});
  CompletedSample sample;
  sample.token_ids = {'d'};
  sample.model_logprobs = {-0.75F};
  sample.top_logprobs = {{{'e', -0.5F}, {'d', -0.75F}}};
  ChoicePiece rest = choice.Finish(sample);
  CHECK(piece.text + rest.text == "abcd");
  piece.text += rest.text;
  piece.details.insert(piece.details.end(), rest.details.begin(), rest.details.end());
  AddPromptScores(*tokenizer, Scores(), 1, &piece.details);

  const auto format = MakeCompletionFormat({});
  const RowJson whole = RowJson::parse(format->Whole({piece}, {PromptPart{}}, 1, {}));
  const RowJson& logprobs = whole["choices"][0]["logprobs"];
  CHECK(logprobs["tokens"] == RowJson({"a", "b", "c", "d"}));
  CHECK(logprobs["token_logprobs"] == RowJson({nullptr, -0.5, -3.0, -0.75}));
  CHECK(logprobs["text_offset"] == RowJson({0, 1, 2, 3}));
  CHECK(logprobs["top_logprobs"] ==
        RowJson::array(
            {nullptr, {{"b", -0.5}}, {{"c", -3.0}, {"d", -0.25}}, {{"d", -0.75}, {"e", -0.5}}}));
}

TEST_CASE("Choice: an echo without a completion", "[unit][serving]") {
  const auto tokenizer = Bytes();
  ChoiceOptions options = EchoOptions(tokenizer);
  options.hides_tokens = true;
  Choice choice(options);
  ChoicePiece piece = choice.Echo("abc", {'a', 'b', 'c'});
  CompletedSample sample;
  sample.token_ids = {'d'};
  const ChoicePiece rest = choice.Finish(sample);
  CHECK(rest.text.empty());
  CHECK(rest.details.empty());
  CHECK(rest.finish == FinishReason::kLength);
  AddPromptScores(*tokenizer, Scores(), 0, &piece.details);
  REQUIRE(piece.details.size() == 3);
  CHECK_FALSE(piece.details[0].logprob);
  CHECK(piece.details[2].logprob == -3.0F);
  CHECK(piece.details[2].top.empty());
}

}  // namespace rollcall
