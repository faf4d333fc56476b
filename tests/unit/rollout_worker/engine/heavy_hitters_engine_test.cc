// Sequences with a KV budget in the engine, over a small real model.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "services/base/runtime/random.h"
#include "services/model/weights/architecture.h"
#include "services/model/weights/random_init.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

ModelConfig SmallConfig(Precision precision = Precision::kFloat32) {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 1024;
  config.tie_word_embeddings = true;
  config.precision = precision;
  return config;
}

std::shared_ptr<const RunnableModel> MakeModel(const ModelConfig& config) {
  const auto layout = ArenaLayout(ListParameters(config, Head::kLanguageModel));
  std::vector<float> arena(static_cast<size_t>(ArenaValues(layout)));
  FillInitialValues(config, Head::kLanguageModel, 5, arena);
  for (float& value : arena) value *= 5.0F;
  auto model = BuildRunnableModel(config, layout, std::as_bytes(std::span(arena)));
  REQUIRE_OK(model.status());
  return *model;
}

GroupRequest MakeGroup(uint64_t id, size_t num_prompt, const HeavyHitterOptions& budget) {
  CounterRandom random(id + 3);
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(1 + random.Below(60)));
  }
  group.stream_keys = {id * 10, id * 10 + 1, id * 10 + 2};
  group.max_new_tokens = 60;
  group.heavy_hitters = budget;
  return group;
}

using Results = std::map<std::pair<uint64_t, int32_t>, CompletedSample>;

struct Run {
  Results results;
  int32_t most_blocks = 0;
  int64_t num_swapped = 0;
};

Run RunGroups(const ModelConfig& config, EngineOptions options,
              const std::vector<GroupRequest>& groups) {
  const auto registry = MakeNullMetrics();
  const SystemClock clock;
  auto engine = Engine::Create(options, config, EngineMetrics(*registry), clock);
  REQUIRE_OK(engine.status());
  (*engine)->AddModel(1, 5, MakeModel(config));
  for (const GroupRequest& group : groups) REQUIRE_OK((*engine)->AddGroup(group));
  Run run;
  while ((*engine)->has_work()) {
    for (CompletedSample& sample : (*engine)->Step().completed) {
      REQUIRE_OK(sample.status);
      const auto key = std::make_pair(sample.group_id, sample.index);
      run.results.emplace(key, std::move(sample));
    }
    run.most_blocks = std::max(run.most_blocks, (*engine)->cache().num_used());
  }
  CHECK((*engine)->cache().num_used() == 0);
  if ((*engine)->swap() != nullptr) run.num_swapped = (*engine)->swap()->stats().num_in;
  return run;
}

void CheckSame(const Results& a, const Results& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [key, sample] : a) {
    REQUIRE(sample.token_ids == b.at(key).token_ids);
    REQUIRE(sample.behavior_logprobs == b.at(key).behavior_logprobs);
  }
}

}  // namespace

TEST_CASE("Engine: a budget that covers everything changes no bit", "[unit][engine]") {
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    const ModelConfig config = SmallConfig(precision);
    std::vector<GroupRequest> whole;
    std::vector<GroupRequest> budgeted;
    for (uint64_t id = 1; id <= 4; ++id) {
      whole.push_back(MakeGroup(id, 20 * id, {}));
      budgeted.push_back(MakeGroup(id, 20 * id, {.num_heavy = 100, .num_recent = 60}));
    }
    CheckSame(RunGroups(config, {}, budgeted).results, RunGroups(config, {}, whole).results);
  }
}

TEST_CASE("Engine: a budget that covers everything costs nothing", "[unit][engine]") {
  const auto registry = MakeNullMetrics();
  const SystemClock clock;
  const ModelConfig config = SmallConfig();
  auto engine = Engine::Create({}, config, EngineMetrics(*registry), clock);
  REQUIRE_OK(engine.status());
  (*engine)->AddModel(1, 5, MakeModel(config));
  // Room for all of these slots would be gigabytes for each sequence.
  const HeavyHitterOptions budget{.num_heavy = 1 << 24, .num_recent = 1 << 24};
  int32_t num_cached = 0;
  for (uint64_t id = 1; id <= 2; ++id) {
    GroupRequest group = MakeGroup(1, 40, budget);
    group.group_id = id;
    REQUIRE_OK((*engine)->AddGroup(std::move(group)));
    while ((*engine)->has_work()) {
      for (const CompletedSample& sample : (*engine)->Step().completed) {
        REQUIRE_OK(sample.status);
        num_cached = std::max(num_cached, sample.num_cached_prompt_tokens);
      }
    }
  }
  // It shares blocks like any other.
  CHECK(num_cached == 32);
}

TEST_CASE("Engine: a budget bounds memory and depends on no schedule", "[unit][engine]") {
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    const ModelConfig config = SmallConfig(precision);
    std::vector<GroupRequest> groups;
    for (uint64_t id = 1; id <= 4; ++id) {
      groups.push_back(MakeGroup(id, 9 + 40 * (id - 1), {.num_heavy = 10, .num_recent = 10}));
    }
    EngineOptions alone;
    alone.scheduler.max_sequences = 1;
    const Run expected = RunGroups(config, alone, groups);
    // 21 slots are two blocks, whatever the length; a prompt is there as a whole while it is
    // computed.
    CHECK(expected.most_blocks <= (9 + 40 * 3 + 15) / 16 + 2);

    EngineOptions chunked;
    chunked.scheduler.max_batched_tokens = 7;
    CheckSame(RunGroups(config, chunked, groups).results, expected.results);
    EngineOptions threads;
    threads.compute_threads = 2;
    CheckSame(RunGroups(config, threads, groups).results, expected.results);
    for (const Preemption preemption : {Preemption::kRecompute, Preemption::kSwap}) {
      EngineOptions tight;
      tight.scheduler.preemption = preemption;
      tight.scheduler.watermark = 0;
      tight.kv_cache_bytes = 11 * KvBlockBytes(config, 16);
      tight.swap_bytes = 1 << 20;
      const Run run = RunGroups(config, tight, groups);
      CheckSame(run.results, expected.results);
      if (preemption == Preemption::kSwap) CHECK(run.num_swapped > 0);
    }
  }
}

TEST_CASE("Engine: heavy hitters keep closer to the whole context than recent tokens alone",
          "[unit][engine]") {
  // Log-probabilities that the model gives to one fixed continuation, with and without the budget.
  const ModelConfig config = SmallConfig();
  double heavy_error = 0;
  double recent_error = 0;
  for (uint64_t id = 1; id <= 12; ++id) {
    const auto logprobs = [&](const HeavyHitterOptions& budget) {
      GroupRequest group = MakeGroup(id, 150, budget);
      group.stream_keys.resize(1);
      group.max_new_tokens = 40;
      group.wants_model_logprobs = true;
      // Greedy over a law that leaves one token: the continuation is the same in every run.
      CounterRandom random(id);
      const auto forced = static_cast<int32_t>(1 + random.Below(60));
      group.law.allowed_token_ids = {forced};
      return RunGroups(config, {}, {group}).results.begin()->second.model_logprobs;
    };
    const std::vector<float> whole = logprobs({});
    const std::vector<float> heavy = logprobs({.num_heavy = 15, .num_recent = 15});
    const std::vector<float> recent = logprobs({.num_heavy = 1, .num_recent = 29});
    for (size_t i = 0; i < whole.size(); ++i) {
      heavy_error += std::abs(heavy[i] - whole[i]);
      recent_error += std::abs(recent[i] - whole[i]);
    }
  }
  INFO("heavy " << heavy_error << " recent " << recent_error);
  CHECK(heavy_error < recent_error);
}

TEST_CASE("Engine: a budget that cannot be is refused", "[unit][engine]") {
  ModelConfig config = SmallConfig();
  const auto registry = MakeNullMetrics();
  const SystemClock clock;
  auto engine = Engine::Create({}, config, EngineMetrics(*registry), clock);
  REQUIRE_OK(engine.status());
  (*engine)->AddModel(1, 5, MakeModel(config));
  CHECK((*engine)->AddGroup(MakeGroup(1, 10, {.num_heavy = 0, .num_recent = 5})).code() ==
        StatusCode::kInvalidArgument);
  CHECK((*engine)->AddGroup(MakeGroup(1, 10, {.num_heavy = 5, .num_recent = -1})).code() ==
        StatusCode::kInvalidArgument);
  CHECK((*engine)->AddGroup(MakeGroup(1, 10, {.num_heavy = 5, .num_recent = INT32_MAX})).code() ==
        StatusCode::kInvalidArgument);
}

}  // namespace rollcall
