#include "rollout_worker/sampler/sampler.h"

#include <algorithm>
#include <cmath>
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
std::vector<double> ExactLaw(const std::vector<float>& logits, const SamplingLaw& law) {
  const size_t vocab = logits.size();
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

void CheckAgainstLaw(const SamplingLaw& law, uint64_t key) {
  constexpr size_t kVocab = 20;
  constexpr int kDraws = 40'000;
  const std::vector<float> logits = RandomLogits(kVocab, key);
  const std::vector<double> p = ExactLaw(logits, law);
  Sampler sampler(kVocab);
  REQUIRE_OK(sampler.SetRow(logits, law));
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
}

}  // namespace rollcall
