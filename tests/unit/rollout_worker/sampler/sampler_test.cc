#include "rollout_worker/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/decoder/decoder.h"
#include "tests/support/catch_torch.h"

namespace rollcall {
namespace {

std::vector<float> RandomLogits(size_t vocab, uint64_t key) {
  CounterRandom random(key);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = static_cast<float>(1.5 * random.Normal());
  return logits;
}

// The law in plain double precision, written the slow and obvious way.
std::vector<double> ExactLaw(std::vector<double> logits, const SamplingLaw& law,
                             const RowContext& context) {
  const size_t vocab = logits.size();
  for (size_t i = 0; i < vocab; ++i) {
    const auto token = static_cast<int32_t>(i);
    const auto occurs =
        std::count(context.tokens.completion.begin(), context.tokens.completion.end(), token);
    const auto in_prompt =
        std::count(context.tokens.prompt.begin(), context.tokens.prompt.end(), token);
    if (occurs + in_prompt > 0) {
      logits[i] *= logits[i] > 0 ? 1 / law.repetition_penalty : law.repetition_penalty;
    }
    logits[i] -= law.frequency_penalty * static_cast<double>(occurs);
    if (occurs > 0) logits[i] -= law.presence_penalty;
    for (const LogitBias& bias : law.logit_bias) {
      if (bias.token == token) logits[i] += bias.bias;
    }
    const auto lists = [token](std::span<const int32_t> ids) {
      return std::find(ids.begin(), ids.end(), token) != ids.end();
    };
    const bool too_short =
        static_cast<int64_t>(context.tokens.completion.size()) < law.min_new_tokens;
    const bool allowed =
        (law.allowed_token_ids.empty() || lists(law.allowed_token_ids)) &&
        !lists(law.banned_token_ids) && !(too_short && lists(context.stop_token_ids)) &&
        (context.allowed_bits.empty() || (context.allowed_bits[i / 64] >> (i % 64) & 1) != 0);
    if (!allowed) logits[i] = -1e9;
  }
  std::vector<double> p(vocab);
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < vocab; ++i) p[i] = std::exp((logits[i] - largest) / law.temperature);
  const auto normalize = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  normalize();
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  if (law.top_k > 0) {
    for (size_t i = static_cast<size_t>(law.top_k); i < vocab; ++i) p[order[i]] = 0;
    normalize();
  }
  if (law.top_p < 1) {
    double mass = 0;
    for (const size_t i : order) {
      if (mass >= law.top_p) p[i] = 0;
      mass += p[i];
    }
    normalize();
  }
  if (law.min_p > 0) {
    const double threshold = law.min_p * *std::max_element(p.begin(), p.end());
    for (double& x : p) x = x < threshold ? 0 : x;
    normalize();
  }
  return p;
}

void CheckAgainstLaw(const SamplingLaw& law, uint64_t key, const RowContext& context = {}) {
  constexpr size_t kVocab = 20;
  constexpr int kDraws = 40'000;
  const std::vector<float> logits = RandomLogits(kVocab, key);
  const std::vector<double> p = ExactLaw({logits.begin(), logits.end()}, law, context);
  Sampler sampler(kVocab);
  REQUIRE_OK(sampler.SetRow(logits, law, context));
  std::vector<int> counts(kVocab, 0);
  const CounterRandom random(key + 1);
  for (int i = 0; i < kDraws; ++i) {
    const SampledToken token = sampler.Draw(random.UniformAt(static_cast<uint64_t>(i)));
    ++counts[token.token];
    REQUIRE(p[token.token] > 0);
    REQUIRE(std::abs(token.logprob - std::log(p[token.token])) < 1e-5);
  }
  double chi_square = 0;
  int degrees = -1;
  for (size_t i = 0; i < kVocab; ++i) {
    if (p[i] == 0) continue;
    const double expected = p[i] * kDraws;
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++degrees;
  }
  // Four standard deviations above the mean; the seed is fixed, so this is no lottery.
  INFO("chi-square " << chi_square << " with " << degrees << " degrees of freedom");
  CHECK(chi_square < degrees + 4 * std::sqrt(2.0 * degrees) + 1e-9);
}

}  // namespace

TEST_CASE("Sampler: draws follow the law", "[unit][sampler]") {
  CheckAgainstLaw({}, 1);
  CheckAgainstLaw({.temperature = 0.5}, 2);
  CheckAgainstLaw({.temperature = 2.5}, 3);
  CheckAgainstLaw({.top_k = 5}, 4);
  CheckAgainstLaw({.top_k = 1}, 5);
  CheckAgainstLaw({.top_p = 0.7}, 6);
  CheckAgainstLaw({.min_p = 0.2}, 7);
  CheckAgainstLaw({.temperature = 1.7, .top_p = 0.8, .top_k = 12, .min_p = 0.05}, 8);
  CheckAgainstLaw({.top_p = 0.999999}, 9);
}

TEST_CASE("Sampler: penalties, bias and masks are part of the law", "[unit][sampler]") {
  const std::vector<int32_t> prompt = {1, 2, 3, 3, 17};
  const std::vector<int32_t> completion = {3, 4, 4, 5, 4};
  const std::vector<int32_t> stops = {7, 19};
  const std::vector<uint64_t> bits = {0xFF0F1};
  const RowContext plain{.tokens = {prompt, completion}, .stop_token_ids = stops};
  RowContext masked = plain;
  masked.allowed_bits = bits;
  CheckAgainstLaw({.repetition_penalty = 1.3}, 11, plain);
  CheckAgainstLaw({.repetition_penalty = 0.7}, 12, plain);
  CheckAgainstLaw({.presence_penalty = 0.8, .frequency_penalty = -0.4}, 13, plain);
  CheckAgainstLaw({.logit_bias = {{0, 2.5F}, {19, -3.0F}}}, 14, plain);
  CheckAgainstLaw({.allowed_token_ids = {18, 2, 9, 4, 2}}, 15, plain);
  CheckAgainstLaw({.banned_token_ids = {0, 7, 3}}, 16, plain);
  CheckAgainstLaw({.min_new_tokens = 6}, 17, plain);
  CheckAgainstLaw({.min_new_tokens = 5}, 18, plain);
  CheckAgainstLaw({}, 19, masked);
  CheckAgainstLaw({.temperature = 0.8,
                   .top_p = 0.9,
                   .top_k = 8,
                   .min_p = 0.02,
                   .repetition_penalty = 1.2,
                   .presence_penalty = 0.3,
                   .frequency_penalty = 0.2,
                   .logit_bias = {{6, 1.0F}},
                   .banned_token_ids = {5},
                   .min_new_tokens = 9},
                  20, masked);
}

// Rows so large that the bound on the logit is bisected.
TEST_CASE("Sampler: truncation of large rows keeps what sorting would", "[unit][sampler]") {
  for (const size_t vocab : {130UL, 1000UL, 20011UL}) {
    Sampler sampler(static_cast<int64_t>(vocab));
    std::vector<std::vector<float>> rows = {RandomLogits(vocab, vocab)};
    rows.emplace_back(vocab, 0.5F);  // all equal
    rows.push_back(RandomLogits(vocab, vocab + 1));
    for (float& x : rows.back()) x = std::round(x * 4);  // many ties
    rows.push_back(RandomLogits(vocab, vocab + 2));
    for (float& x : rows.back()) x *= 40;  // one token has nearly all mass
    for (const std::vector<float>& row : rows) {
      for (const SamplingLaw& law :
           {SamplingLaw{.top_k = 20}, SamplingLaw{.top_k = 700}, SamplingLaw{.top_p = 0.9},
            SamplingLaw{.top_p = 0.2}, SamplingLaw{.temperature = 1.5, .top_p = 0.98, .top_k = 99},
            SamplingLaw{.temperature = 0.5, .min_p = 0.05},
            SamplingLaw{.top_p = 0.8, .min_p = 0.01}}) {
        REQUIRE_OK(sampler.SetRow(row, law));
        const std::vector<double> p = ExactLaw({row.begin(), row.end()}, law, {});
        std::vector<int32_t> expected;
        for (size_t i = 0; i < vocab; ++i) {
          if (p[i] > 0) expected.push_back(static_cast<int32_t>(i));
        }
        std::vector<int32_t> kept(sampler.kept().begin(), sampler.kept().end());
        if (kept.empty()) {
          REQUIRE(expected.size() == vocab);
          continue;
        }
        // The masses are float32: the sum may reach top_p one token sooner or later.
        const auto more = static_cast<int64_t>(kept.size()) - static_cast<int64_t>(expected.size());
        REQUIRE(std::abs(more) <= (law.top_p < 1 ? 1 : 0));
        std::vector<int32_t> both;
        std::set_intersection(kept.begin(), kept.end(), expected.begin(), expected.end(),
                              std::back_inserter(both));
        REQUIRE(both.size() == std::min(kept.size(), expected.size()));
        double mass = 0;
        const std::vector<double> whole =
            ExactLaw({row.begin(), row.end()}, {.temperature = law.temperature}, {});
        for (const int32_t token : kept) mass += whole[token];
        REQUIRE(sampler.KeptMass() == Approx(mass).margin(1e-5));
      }
    }
  }
}

TEST_CASE("Sampler: the log-probability is that of the log-softmax of the kept logits",
          "[unit][sampler]") {
  constexpr size_t kVocab = 3000;
  const std::vector<float> logits = RandomLogits(kVocab, 33);
  Sampler sampler(kVocab);
  for (const SamplingLaw& law :
       {SamplingLaw{.temperature = 0.7, .top_k = 50}, SamplingLaw{.top_p = 0.9},
        SamplingLaw{.min_p = 0.01, .banned_token_ids = {3, 4}}}) {
    REQUIRE_OK(sampler.SetRow(logits, law));
    const std::vector<int32_t> kept(sampler.kept().begin(), sampler.kept().end());
    REQUIRE(!kept.empty());
    std::vector<float> kept_logits;
    for (const int32_t token : kept) kept_logits.push_back(logits[token]);
    std::vector<float> expected(kept.size());
    LogSoftmaxRow(kept_logits, law.temperature, expected);
    for (int i = 0; i < 500; ++i) {
      const SampledToken token = sampler.Draw(i / 500.0);
      const auto place = std::lower_bound(kept.begin(), kept.end(), token.token) - kept.begin();
      REQUIRE(kept[place] == token.token);
      REQUIRE(token.logprob == expected[place]);
    }
  }
}

TEST_CASE("Sampler: the model's own log-probabilities ignore the law", "[unit][sampler]") {
  constexpr size_t kVocab = 1000;
  const std::vector<float> logits = RandomLogits(kVocab, 41);
  std::vector<float> expected(kVocab);
  LogSoftmaxRow(logits, 1.0, expected);
  std::vector<int32_t> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  Sampler sampler(kVocab);
  for (const SamplingLaw& law : {SamplingLaw{}, SamplingLaw{.temperature = 0},
                                 SamplingLaw{.top_k = 3}, SamplingLaw{.logit_bias = {{5, 9.0F}}}}) {
    REQUIRE_OK(sampler.SetRow(logits, law));
    for (const int32_t token : {0, 5, 999}) {
      REQUIRE(sampler.ModelLogprob(token) == expected[token]);
    }
    const std::vector<TokenLogprob> top = sampler.TopLogprobs(7);
    REQUIRE(top.size() == 7);
    for (size_t i = 0; i < top.size(); ++i) {
      REQUIRE(top[i].token == order[i]);
      REQUIRE(top[i].logprob == expected[order[i]]);
    }
  }
}

TEST_CASE("Sampler: masks that leave nothing are refused", "[unit][sampler]") {
  Sampler sampler(4);
  const std::vector<float> logits(4, 0.25F);
  CHECK(sampler.SetRow(logits, {.allowed_token_ids = {1}, .banned_token_ids = {1}}).code() ==
        StatusCode::kFailedPrecondition);
  REQUIRE_OK(sampler.SetRow(logits, {.temperature = 0, .banned_token_ids = {0, 1}}));
  CHECK(sampler.Draw(0.5).token == 2);
}

TEST_CASE("Sampler: without truncation the log-probability is that of the shared log-softmax",
          "[unit][sampler]") {
  constexpr size_t kVocab = 257;
  const std::vector<float> logits = RandomLogits(kVocab, 21);
  Sampler sampler(kVocab);
  for (const double temperature : {1.0, 0.7, 3.0}) {
    std::vector<float> expected(kVocab);
    LogSoftmaxRow(logits, temperature, expected);
    // top_k as large as the vocabulary keeps everything: the same law.
    for (const int32_t top_k : {0, 257, 1000}) {
      REQUIRE_OK(sampler.SetRow(logits, {.temperature = temperature, .top_k = top_k}));
      for (int i = 0; i < 1000; ++i) {
        const SampledToken token = sampler.Draw(i / 1000.0);
        REQUIRE(token.logprob == expected[token.token]);
      }
    }
  }
}

TEST_CASE("Sampler: greedy takes the lowest id among the largest logits", "[unit][sampler]") {
  Sampler sampler(5);
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, 3.0F, 3.0F};
  REQUIRE_OK(sampler.SetRow(logits, {.temperature = 0}));
  for (const double uniform : {0.0, 0.5, 0.999999}) {
    CHECK(sampler.Draw(uniform).token == 1);
    CHECK(sampler.Draw(uniform).logprob == 0.0F);
  }
}

TEST_CASE("Sampler: among equal tokens the lower ids are kept", "[unit][sampler]") {
  Sampler sampler(4);
  const std::vector<float> logits(4, 0.25F);
  for (const SamplingLaw& law : {SamplingLaw{.top_k = 2}, SamplingLaw{.top_p = 0.45}}) {
    REQUIRE_OK(sampler.SetRow(logits, law));
    CHECK(sampler.Draw(0.0).token == 0);
    CHECK(sampler.Draw(0.49).token == 0);
    CHECK(sampler.Draw(0.51).token == 1);
    CHECK(sampler.Draw(0.9999999).token == 1);
    CHECK(sampler.Draw(0.0).logprob == Approx(std::log(0.5)).margin(1e-6));
  }
}

TEST_CASE("Sampler: a token of probability zero is never drawn", "[unit][sampler]") {
  Sampler sampler(4);
  const std::vector<float> logits = {-2000.0F, 0.0F, 0.0F, -2000.0F};
  REQUIRE_OK(sampler.SetRow(logits, {}));
  CHECK(sampler.Draw(0.0).token == 1);
  CHECK(sampler.Draw(std::nextafter(1.0, 0.0)).token == 2);
}

TEST_CASE("Sampler: logits that are no numbers are refused", "[unit][sampler]") {
  Sampler sampler(3);
  std::vector<float> logits = {0.0F, std::numeric_limits<float>::quiet_NaN(), 1.0F};
  CHECK(sampler.SetRow(logits, {}).code() == StatusCode::kDataLoss);
  logits[1] = std::numeric_limits<float>::infinity();
  CHECK(sampler.SetRow(logits, {.temperature = 0}).code() == StatusCode::kDataLoss);
}

TEST_CASE("Sampler: settings out of range are named", "[unit][sampler]") {
  REQUIRE_OK(CheckSamplingLaw({}));
  const auto message = [](const SamplingLaw& law) { return Message(CheckSamplingLaw(law)); };
  CHECK(message({.temperature = -1}).find("temperature") != std::string::npos);
  CHECK(message({.temperature = std::nan("")}).find("temperature") != std::string::npos);
  CHECK(message({.top_p = 0}).find("top_p") != std::string::npos);
  CHECK(message({.top_k = -1}).find("top_k") != std::string::npos);
  CHECK(message({.min_p = 1}).find("min_p") != std::string::npos);
  CHECK(message({.repetition_penalty = 0}).find("repetition_penalty") != std::string::npos);
  CHECK(message({.presence_penalty = 101}).find("presence_penalty") != std::string::npos);
  CHECK(message({.frequency_penalty = std::nan("")}).find("frequency_penalty") !=
        std::string::npos);
  CHECK(message({.logit_bias = {{1, 101.0F}}}).find("logit_bias") != std::string::npos);
  CHECK(message({.logit_bias = {{1, 1.0F}, {1, 2.0F}}}).find("twice") != std::string::npos);
  CHECK(message({.min_new_tokens = -1}).find("min_new_tokens") != std::string::npos);
  CHECK(Message(CheckSamplingLaw({.allowed_token_ids = {4}}, 4)).find("allowed_token_ids") !=
        std::string::npos);
}

}  // namespace rollcall
