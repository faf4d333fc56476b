// Kept sets and log-probabilities against the logits processors of transformers, run live.
#include <fstream>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

#include "rollout_worker/sampler/sampler.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using nlohmann::json;

json ToJson(const SamplingLaw& law) {
  json bias = json::array();
  for (const LogitBias& b : law.logit_bias) bias.push_back({b.token, b.bias});
  return {{"temperature", law.temperature},
          {"top_p", law.top_p},
          {"top_k", law.top_k},
          {"min_p", law.min_p},
          {"repetition_penalty", law.repetition_penalty},
          {"logit_bias", bias},
          {"banned_token_ids", law.banned_token_ids},
          {"min_new_tokens", law.min_new_tokens}};
}

SamplingLaw RandomLaw(int32_t vocab, CounterRandom* random) {
  SamplingLaw law;
  const auto sometimes = [random] { return random->Below(2) == 0; };
  if (sometimes()) law.temperature = 0.3 + 1.5 * random->Uniform();
  if (sometimes()) law.top_k = static_cast<int32_t>(1 + random->Below(vocab));
  if (sometimes()) law.top_p = 0.05 + 0.94 * random->Uniform();
  if (sometimes()) law.min_p = 0.2 * random->Uniform();
  if (sometimes()) law.repetition_penalty = 0.6 + random->Uniform();
  // transformers applies the bias after the repetition penalty, as the law does.
  if (sometimes()) law.logit_bias = {{3, 1.5F}, {vocab - 1, -2.0F}};
  if (sometimes()) law.banned_token_ids = {0, 5, vocab / 2};
  if (sometimes()) law.min_new_tokens = static_cast<int32_t>(random->Below(6));
  return law;
}

}  // namespace

TEST_CASE("Sampler: laws agree with transformers", "[unit][sampler][python]") {
  if (!testing::HasPython("torch, transformers")) return;
  CounterRandom random(77);
  json cases = json::array();
  for (int i = 0; i < 150; ++i) {
    const auto vocab = static_cast<int32_t>(20 + random.Below(500));
    std::vector<float> logits(static_cast<size_t>(vocab));
    for (float& logit : logits) logit = static_cast<float>(2 * random.Normal());
    const auto some_tokens = [&] {
      std::vector<int32_t> tokens(1 + random.Below(8));
      for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(vocab));
      return tokens;
    };
    const std::vector<int32_t> prompt = some_tokens();
    const std::vector<int32_t> completion = some_tokens();
    const std::vector<int32_t> stops = {1, 7};
    const SamplingLaw law = RandomLaw(vocab, &random);
    Sampler sampler(vocab);
    REQUIRE_OK(
        sampler.SetRow(logits, law, {.tokens = {prompt, completion}, .stop_token_ids = stops}));
    std::map<int32_t, float> drawn;
    for (int n = 0; n < 2000; ++n) {
      const SampledToken token = sampler.Draw(n / 2000.0);
      drawn[token.token] = token.logprob;
    }
    std::vector<int32_t> kept(sampler.kept().begin(), sampler.kept().end());
    if (sampler.kept().empty()) {
      kept.clear();
      for (int32_t token = 0; token < vocab; ++token) kept.push_back(token);
    }
    json logprobs = json::array();
    for (const auto& [token, logprob] : drawn) logprobs.push_back({token, logprob});
    cases.push_back({{"logits", logits},
                     {"law", ToJson(law)},
                     {"prompt", prompt},
                     {"completion", completion},
                     {"stops", stops},
                     {"kept", kept},
                     {"logprobs", logprobs}});
  }
  const testing::TempDir dir;
  std::ofstream(dir.File("cases.json")) << cases;
  CHECK(testing::RunPython("tests/unit/rollout_worker/sampler/reference_sampler.py",
                           dir.File("cases.json")) == 0);
}

}  // namespace rollcall
