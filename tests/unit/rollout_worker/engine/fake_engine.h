// An engine over the fake model, with what tests of it need.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "rollout_worker/engine/engine.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/fake_model.h"

namespace rollcall::testing {

struct FakeEngine {
  static constexpr int64_t kVocab = 40;
  static constexpr int32_t kPositions = 96;
  using Results = std::map<std::pair<uint64_t, int32_t>, CompletedSample>;

  FakeEngine(int32_t num_blocks, EngineOptions options) {
    auto fake = std::make_unique<FakeModelRunner>(kVocab, num_blocks, options.block_size);
    runner = fake.get();
    ModelConfig config;
    config.vocab_size = kVocab;
    config.max_positions = kPositions;
    engine = std::make_unique<Engine>(options, config, num_blocks, std::move(fake),
                                      EngineMetrics(*metrics), clock);
    REQUIRE_OK(engine->AllocateSwap());
  }
  void AddModel(ModelId id) {
    engine->AddModel(id, 10 * id, std::make_shared<FakeModel>(static_cast<uint64_t>(id)));
  }
  void Step() {
    for (CompletedSample& sample : engine->Step().completed) {
      const auto key = std::make_pair(sample.group_id, sample.index);
      REQUIRE(results.emplace(key, std::move(sample)).second);
    }
  }
  // Until nothing is left, which must be before so many steps.
  void RunAll(int64_t max_steps = 1'000'000) {
    while (engine->has_work() && max_steps-- > 0) Step();
    REQUIRE_FALSE(engine->has_work());
    CheckEmpty();
  }
  void CheckEmpty() const {
    CHECK(runner->complaint.empty());
    CHECK(engine->cache().num_used() == 0);
    if (engine->swap() != nullptr) {
      CHECK(engine->swap()->num_free() == engine->swap()->num_blocks());
    }
  }

  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  SystemClock clock;
  FakeModelRunner* runner = nullptr;
  std::unique_ptr<Engine> engine;
  Results results;
};

// Some engine that can hold a sequence of the longest length: block size, budgets, pool, swapping.
struct RandomEngine {
  EngineOptions options;
  int32_t num_blocks = 0;
};

inline RandomEngine MakeRandomEngine(CounterRandom& random) {
  RandomEngine made;
  EngineOptions& options = made.options;
  const auto pick = [&random](std::initializer_list<int32_t> values) {
    return values.begin()[random.Below(values.size())];
  };
  options.block_size = pick({1, 4, 16});
  options.scheduler.max_sequences = pick({1, 3, 16, 128});
  options.scheduler.max_batched_tokens = pick({1, 7, 64, 2048});
  options.scheduler.max_prefill_chunk = pick({0, 0, 1, 5});
  options.scheduler.preemption = static_cast<Preemption>(random.Below(3));
  options.swap_bytes = random.Below(3) == 0 ? 1 << 12 : 1 << 20;
  options.num_swap_threads = static_cast<int32_t>(random.Below(2));
  made.num_blocks = (FakeEngine::kPositions + options.block_size - 1) / options.block_size +
                    pick({0, 3, 20, 1000});
  return made;
}

// A group of samples with a law of some kind; prompts share prefixes now and then.
inline GroupRequest MakeRandomGroup(uint64_t group_id, ModelId model, CounterRandom& random) {
  GroupRequest group;
  group.group_id = group_id;
  group.model = model;
  const size_t num_prompt = 1 + random.Below(40);
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(i < 20 ? group_id % 3 : random.Below(9)));
  }
  const size_t num_samples = 1 + random.Below(4);
  for (size_t i = 0; i < num_samples; ++i) group.stream_keys.push_back(100 * group_id + i);
  if (random.Below(3) == 0) group.law.top_k = 10;
  group.max_new_tokens = static_cast<int32_t>(1 + random.Below(50));
  group.stop_token_ids = {0, 1};
  return group;
}

}  // namespace rollcall::testing
