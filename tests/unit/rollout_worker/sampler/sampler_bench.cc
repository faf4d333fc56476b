// Time of one row, set and drawn from: rollout_sampler_test "[.bench]".
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "rollout_worker/sampler/sampler.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch_torch.h"

namespace rollcall {

TEST_CASE("Sampler: microseconds per row", "[.bench][sampler]") {
  struct Case {
    const char* name;
    SamplingLaw law;
  };
  const std::vector<Case> cases = {
      {"greedy", {.temperature = 0}},  {"temperature", {.temperature = 0.8}},
      {"top_k 20", {.top_k = 20}},     {"top_p 0.9", {.top_p = 0.9}},
      {"min_p 0.05", {.min_p = 0.05}}, {"repetition 1.1", {.repetition_penalty = 1.1}}};
  for (const int64_t vocab : {512, 8192, 151936}) {
    // Spread as in a trained model: most of the mass on some hundred tokens.
    CounterRandom random(7);
    std::vector<float> logits(static_cast<size_t>(vocab));
    for (float& logit : logits) logit = static_cast<float>(3.0 * random.Normal());
    std::vector<int32_t> context(512);
    for (size_t i = 0; i < context.size(); ++i) context[i] = static_cast<int32_t>(i);
    Sampler sampler(vocab);
    for (const Case& item : cases) {
      double best = 1e9;
      int64_t sum = 0;
      for (int round = 0; round < 30; ++round) {
        const int num_rows = static_cast<int>(std::max<int64_t>(1, 500'000 / vocab));
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < num_rows; ++i) {
          const Status status = sampler.SetRow(logits, item.law, {.tokens = {context, {}}});
          if (!status.ok()) FAIL(status.ToString());
          sum += sampler.Draw(static_cast<double>(i) / num_rows).token;
        }
        const std::chrono::duration<double, std::micro> spent =
            std::chrono::steady_clock::now() - start;
        best = std::min(best, spent.count() / num_rows);
      }
      std::printf("V %6lld  %-15s %8.2f us  (kept %zu, sum %lld)\n", static_cast<long long>(vocab),
                  item.name, best, sampler.kept().size(), static_cast<long long>(sum % 7));
    }
  }
}

}  // namespace rollcall
