#include "rollout_worker/serving/completion_text.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rollout_worker/serving/choice.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::shared_ptr<const Tokenizer> Bytes() {
  static const std::shared_ptr<const Tokenizer> kTokenizer =
      *ParseTokenizer(ByteTokenizerJson(), "test");
  return kTokenizer;
}

std::vector<int32_t> TokensOf(std::string_view text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
  return tokens;
}

struct Shown {
  std::string text;
  size_t num_tokens = 0;  // until it ended
  bool is_stopped = false;
};

// What is shown of a text whose tokens come one by one, and ends where the watcher says so.
Shown Show(const CompletionTextOptions& options, const std::vector<int32_t>& tokens) {
  CompletionText text(options);
  TextStopWatcher watcher(options);
  Shown shown;
  for (const int32_t token : tokens) {
    text.Push(token);
    shown.text += text.Take();
    ++shown.num_tokens;
    shown.is_stopped = watcher.EndsWith(token);
    CHECK(text.is_stopped() == shown.is_stopped);
    if (shown.is_stopped) break;
  }
  text.Finish();
  shown.text += text.Take();
  return shown;
}

TEST_CASE("CompletionText: whole characters only, and all of them at the end") {
  CompletionText text({.tokenizer = Bytes()});
  const std::vector<int32_t> tokens = TokensOf("a\xe6\x97\xa5");
  text.Push(tokens[0]);
  CHECK(text.Take() == "a");
  text.Push(tokens[1]);
  text.Push(tokens[2]);
  CHECK(text.Take().empty());
  text.Push(tokens[3]);
  CHECK(text.Take() == "\xe6\x97\xa5");
  text.Push(tokens[1]);
  text.Finish();
  CHECK(text.Take() == "\xef\xbf\xbd");
}

TEST_CASE("CompletionText: a stop string is cut out, or kept where that is asked for") {
  const CompletionTextOptions options{.tokenizer = Bytes(), .stops = {"END", "zz"}};
  const Shown cut = Show(options, TokensOf("so it ENDs here"));
  CHECK(cut.text == "so it ");
  CHECK(cut.is_stopped);
  CHECK(cut.num_tokens == 9);
  CompletionTextOptions kept = options;
  kept.includes_stop = true;
  CHECK(Show(kept, TokensOf("so it ENDs here")).text == "so it END");
  CHECK(Show(options, TokensOf("so it EN")).text == "so it EN");
}

TEST_CASE("CompletionText: what may begin a stop string is held back, nothing else is") {
  CompletionText text({.tokenizer = Bytes(), .stops = {"aab"}});
  std::string shown;
  for (const int32_t token : TokensOf("xaaa")) {
    text.Push(token);
    shown += text.Take();
  }
  CHECK(shown == "xa");
  text.Push('c');
  CHECK(text.Take() == "aac");
}

TEST_CASE("CompletionText: stop strings do not count in the first min_tokens") {
  const CompletionTextOptions options{.tokenizer = Bytes(), .stops = {"x"}, .min_tokens = 3};
  CHECK(Show(options, TokensOf("xxxaxb")).text == "xxxa");
}

// Against a search in the whole text, over random texts of few letters.
TEST_CASE("CompletionText: equals a search in the whole text") {
  CounterRandom random(7);
  const auto word = [&](size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i)
      text += random.Below(8) == 0 ? "\xc3\xa9" : random.Below(2) ? "a" : "b";
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    const std::string text = word(random.Below(40));
    std::vector<std::string> stops;
    for (uint64_t i = 0; i <= random.Below(3); ++i) stops.push_back(word(1 + random.Below(4)));
    // The stop that is complete first; of those that end together, the longest.
    size_t end = std::string::npos;
    size_t begin = 0;
    for (const std::string& stop : stops) {
      const size_t found = text.find(stop);
      if (found == std::string::npos) continue;
      const size_t found_end = found + stop.size();
      if (found_end < end || (found_end == end && found < begin)) {
        end = found_end;
        begin = found;
      }
    }
    const Shown shown = Show({.tokenizer = Bytes(), .stops = stops}, TokensOf(text));
    REQUIRE(shown.is_stopped == (end != std::string::npos));
    REQUIRE(shown.text == (end == std::string::npos ? text : text.substr(0, begin)));
    if (shown.is_stopped) REQUIRE(shown.num_tokens == end);
  }
}

// --- Choice -------------------------------------------------------------------------------------

CompletedSample Sample(const std::string& text, CompletionEnd end) {
  CompletedSample sample;
  sample.token_ids = TokensOf(text);
  for (size_t i = 0; i < text.size(); ++i) {
    sample.behavior_logprobs.push_back(-static_cast<float>(i));
    sample.model_logprobs.push_back(-0.5F * static_cast<float>(i));
    sample.policy_versions.push_back(7);
    sample.top_logprobs.push_back({{static_cast<int32_t>('x'), -0.25F}});
  }
  sample.end = end;
  return sample;
}

TEST_CASE("Choice: pieces of a stream join to the whole answer") {
  const CompletedSample sample = Sample("h\xc3\xa9llo", CompletionEnd::kLength);
  ChoiceOptions options{.text = {.tokenizer = Bytes()}, .num_logprobs = 1};
  const ChoicePiece whole = Choice(options).Finish(sample);
  CHECK(whole.text == "h\xc3\xa9llo");
  CHECK(whole.is_first);
  CHECK(whole.details.size() == 6);
  CHECK(whole.details[4].logprob == -2.0F);
  CHECK(whole.details[4].top.front() == std::pair<std::string, float>{"x", -0.25F});
  CHECK(whole.finish == FinishReason::kLength);

  Choice choice(options);
  std::string text;
  std::vector<int32_t> tokens;
  size_t num_details = 0;
  const auto add = [&](const ChoicePiece& piece) {
    text += piece.text;
    tokens.insert(tokens.end(), piece.token_ids.begin(), piece.token_ids.end());
    num_details += piece.details.size();
  };
  for (size_t i = 0; i + 1 < sample.token_ids.size(); ++i) {
    SampledTokens one;
    one.token_ids = {sample.token_ids[i]};
    one.model_logprobs = {sample.model_logprobs[i]};
    add(choice.Take(one, i));
  }
  // The last token comes with the end.
  add(choice.Finish(sample));
  CHECK(text == whole.text);
  CHECK(tokens == whole.token_ids);
  CHECK(num_details == 6);
  CHECK(choice.num_tokens() == 6);
}

TEST_CASE("Choice: the token that ends it is told and not shown") {
  const auto finish = [](bool shows) {
    Choice choice({.text = {.tokenizer = Bytes()},
                   .stop_token_ids = {'!', '?'},
                   .eos_token_ids = {'?'},
                   .shows_stop_token = shows});
    return choice.Finish(Sample("ab!", CompletionEnd::kStop));
  };
  CHECK(finish(false).text == "ab");
  CHECK(finish(true).text == "ab!");
  CHECK(finish(false).token_ids.size() == 3);
  CHECK(finish(false).finish == FinishReason::kStop);
  CHECK(finish(false).stop_reason == static_cast<int>('!'));
  Choice choice({.text = {.tokenizer = Bytes()}, .stop_token_ids = {'?'}, .eos_token_ids = {'?'}});
  CHECK(choice.Finish(Sample("ab?", CompletionEnd::kStop)).stop_reason.is_null());
}

TEST_CASE("Choice: a stop string is named") {
  Choice choice({.text = {.tokenizer = Bytes(), .stops = {"lo"}}});
  const ChoicePiece piece = choice.Finish(Sample("hello", CompletionEnd::kStop));
  CHECK(piece.text == "hel");
  CHECK(piece.stop_reason == "lo");
}

TEST_CASE("Choice: an echo has the prompt's tokens before the completion's") {
  Choice choice({.text = {.tokenizer = Bytes()}, .num_logprobs = 0});
  ChoicePiece echo = choice.Echo("ab", {'a', 'b'});
  AddPromptScores(*Bytes(), {.logprobs = {-3.0F}}, 0, &echo.details);
  CHECK(echo.text == "ab");
  CHECK_FALSE(echo.details[0].logprob);
  CHECK(echo.details[1].logprob == -3.0F);
  CHECK(choice.Finish(Sample("c", CompletionEnd::kLength)).details[0].text_offset == 2);
}

}  // namespace
}  // namespace rollcall
