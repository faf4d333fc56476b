// The engine over a fake model whose logits depend on everything that was read from the KV memory.
#include "rollout_worker/engine/engine.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/fake_model.h"

namespace rollcall {
namespace {

using testing::FakeLogits;
using testing::FakeModel;
using testing::FakeModelRunner;

constexpr int64_t kVocab = 40;

ModelConfig FakeConfig() {
  ModelConfig config;
  config.vocab_size = kVocab;
  config.max_positions = 96;
  return config;
}

struct Rig {
  explicit Rig(int32_t num_blocks = 256, EngineOptions options = {}) {
    auto fake = std::make_unique<FakeModelRunner>(kVocab, num_blocks, options.block_size);
    runner = fake.get();
    engine = std::make_unique<Engine>(options, FakeConfig(), num_blocks, std::move(fake),
                                      EngineMetrics(*metrics), clock);
  }
  void AddModel(ModelId id, int64_t version) {
    engine->AddModel(id, version, std::make_shared<FakeModel>(static_cast<uint64_t>(id)));
  }
  // Runs everything; the results by (group, index).
  std::map<std::pair<uint64_t, int32_t>, CompletedSample> RunAll() {
    std::map<std::pair<uint64_t, int32_t>, CompletedSample> results;
    while (engine->has_work()) {
      for (CompletedSample& sample : engine->Step().completed) {
        high_water = std::max(high_water, engine->cache().num_used());
        const auto key = std::make_pair(sample.group_id, sample.index);
        REQUIRE(results.emplace(key, std::move(sample)).second);
      }
      high_water = std::max(high_water, engine->cache().num_used());
    }
    CHECK(runner->complaint.empty());
    CHECK(engine->cache().num_used() == 0);
    return results;
  }

  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  SystemClock clock;
  FakeModelRunner* runner = nullptr;
  std::unique_ptr<Engine> engine;
  int32_t high_water = 0;  // of KV blocks, between steps
};

GroupRequest RandomGroup(uint64_t group_id, ModelId model, CounterRandom& random) {
  GroupRequest group;
  group.group_id = group_id;
  group.model = model;
  const size_t num_prompt = 1 + random.Below(40);
  // Prompts share prefixes now and then.
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(i < 20 ? group_id % 3 : random.Below(9)));
  }
  const size_t num_samples = 1 + random.Below(5);
  for (size_t i = 0; i < num_samples; ++i) {
    group.stream_keys.push_back(
        SampleStreamKey(3, 1, 0, static_cast<int64_t>(group_id), static_cast<int32_t>(i)));
  }
  if (random.Below(3) == 0) group.law.temperature = 0.8;
  if (random.Below(3) == 0) group.law.top_k = 10;
  if (random.Below(3) == 0) group.law.top_p = 0.9;
  if (random.Below(5) == 0) group.law.temperature = 0;
  group.max_new_tokens = static_cast<int32_t>(1 + random.Below(70));
  group.stop_token_ids = {0, 1};
  return group;
}

// What a sample must be, computed without an engine.
CompletedSample Expected(const GroupRequest& group, size_t index) {
  CompletedSample sample;
  std::vector<int32_t> tokens = group.prompt_token_ids;
  Sampler sampler(kVocab);
  const CounterRandom random(group.stream_keys[index]);
  const size_t limit = std::min<size_t>(tokens.size() + group.max_new_tokens,
                                        static_cast<size_t>(FakeConfig().max_positions));
  while (tokens.size() < limit) {
    const std::vector<float> logits =
        FakeLogits(static_cast<uint64_t>(group.model), tokens, kVocab);
    REQUIRE_OK(sampler.SetRow(logits, group.law));
    const SampledToken token = sampler.Draw(random.UniformAt(sample.token_ids.size()));
    tokens.push_back(token.token);
    sample.token_ids.push_back(token.token);
    sample.behavior_logprobs.push_back(token.logprob);
    if (std::find(group.stop_token_ids.begin(), group.stop_token_ids.end(), token.token) !=
        group.stop_token_ids.end()) {
      sample.end = CompletionEnd::kStop;
      break;
    }
  }
  return sample;
}

struct Workload {
  std::vector<GroupRequest> groups;
  std::map<std::pair<uint64_t, int32_t>, CompletedSample> expected;
};

Workload MakeWorkload() {
  Workload work;
  CounterRandom random(77);
  for (uint64_t id = 0; id < 24; ++id) {
    work.groups.push_back(RandomGroup(id, static_cast<ModelId>(1 + id % 2), random));
    for (size_t i = 0; i < work.groups.back().stream_keys.size(); ++i) {
      work.expected[{id, static_cast<int32_t>(i)}] = Expected(work.groups.back(), i);
    }
  }
  return work;
}

void CheckSame(const std::map<std::pair<uint64_t, int32_t>, CompletedSample>& results,
               const Workload& work) {
  REQUIRE(results.size() == work.expected.size());
  for (const auto& [key, sample] : results) {
    const CompletedSample& expected = work.expected.at(key);
    REQUIRE_OK(sample.status);
    REQUIRE(sample.token_ids == expected.token_ids);
    REQUIRE(sample.behavior_logprobs == expected.behavior_logprobs);
    REQUIRE(sample.end == expected.end);
  }
}

GroupRequest SimpleGroup(uint64_t id, size_t num_prompt, size_t num_samples, int32_t max_new) {
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  group.prompt_token_ids.resize(num_prompt);
  std::iota(group.prompt_token_ids.begin(), group.prompt_token_ids.end(), 2);
  for (auto& token : group.prompt_token_ids) token %= kVocab;
  for (size_t i = 0; i < num_samples; ++i) group.stream_keys.push_back(1000 * id + i);
  group.max_new_tokens = max_new;
  return group;
}

}  // namespace

TEST_CASE("Engine: tokens depend neither on batch, chunks, memory nor preemption",
          "[unit][engine]") {
  const Workload work = MakeWorkload();
  SECTION("one group at a time") {
    Rig rig;
    rig.AddModel(1, 10);
    rig.AddModel(2, 11);
    std::map<std::pair<uint64_t, int32_t>, CompletedSample> results;
    for (const GroupRequest& group : work.groups) {
      REQUIRE_OK(rig.engine->AddGroup(group));
      results.merge(rig.RunAll());
    }
    CheckSame(results, work);
  }
  SECTION("any sequence limit, token budget, block size and pool size") {
    for (const int32_t max_sequences : {1, 3, 16, 128}) {
      for (const int32_t max_batched_tokens : {1, 7, 64, 2048}) {
        for (const int32_t block_size : {1, 4, 16}) {
          for (const int32_t slack : {0, 3, 1000}) {
            EngineOptions options;
            options.block_size = block_size;
            options.scheduler = {.max_sequences = max_sequences,
                                 .max_batched_tokens = max_batched_tokens};
            Rig rig((96 + block_size - 1) / block_size + slack, options);
            rig.AddModel(1, 10);
            rig.AddModel(2, 11);
            for (const GroupRequest& group : work.groups) REQUIRE_OK(rig.engine->AddGroup(group));
            CheckSame(rig.RunAll(), work);
            CHECK(rig.runner->largest_batch <= max_batched_tokens);
          }
        }
      }
    }
  }
  SECTION("groups that come and go in between") {
    CounterRandom random(8);
    for (int round = 0; round < 20; ++round) {
      EngineOptions options;
      options.block_size = 4;
      options.scheduler = {.max_sequences = 12, .max_batched_tokens = 32};
      Rig rig(40, options);
      rig.AddModel(1, 10);
      rig.AddModel(2, 11);
      std::map<std::pair<uint64_t, int32_t>, CompletedSample> results;
      size_t next = 0;
      uint64_t noise = 1'000'000;
      while (next < work.groups.size() || rig.engine->has_work()) {
        if (next < work.groups.size() && random.Below(6) == 0) {
          REQUIRE_OK(rig.engine->AddGroup(work.groups[next++]));
        }
        if (random.Below(12) == 0) {
          REQUIRE_OK(rig.engine->AddGroup(RandomGroup(++noise, 1, random)));
        }
        if (random.Below(12) == 0) rig.engine->Abort(noise);
        for (CompletedSample& sample : rig.engine->Step().completed) {
          if (sample.group_id < work.groups.size()) {
            results.emplace(std::make_pair(sample.group_id, sample.index), std::move(sample));
          }
        }
      }
      CheckSame(results, work);
      CHECK(rig.runner->complaint.empty());
      CHECK(rig.engine->cache().num_used() == 0);
    }
  }
}

TEST_CASE("Engine: a group of 16 computes its prompt once and shares its full blocks",
          "[unit][engine]") {
  constexpr int32_t kPrompt = 50;
  constexpr int32_t kNew = 30;
  Rig rig;
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, kPrompt, 16, kNew)));
  const auto results = rig.RunAll();
  CHECK(results.size() == 16);
  // The last sampled token of a completion is never computed.
  CHECK(rig.runner->num_computed == kPrompt + 16 * (kNew - 1));
  const int32_t shared = kPrompt / 16;
  CHECK(rig.high_water == shared + 16 * ((kPrompt + kNew - 1 + 15) / 16 - shared));
}

TEST_CASE("Engine: a repeated prompt is found in the cache", "[unit][engine]") {
  Rig rig;
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, 48, 1, 1)));
  rig.RunAll();
  CHECK(rig.runner->num_computed == 48);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(2, 48, 1, 1)));
  rig.RunAll();
  CHECK(rig.runner->num_computed == 48 + 16);  // the block with the last token is computed again
}

TEST_CASE("Engine: a sequence keeps the version that it started with", "[unit][engine]") {
  Rig rig;
  rig.AddModel(1, 10);
  GroupRequest old_group = SimpleGroup(1, 20, 2, 40);
  REQUIRE_OK(rig.engine->AddGroup(old_group));
  for (int i = 0; i < 5; ++i) rig.engine->Step();
  for (ModelId id = 2; id <= 5; ++id) rig.AddModel(id, 9 + id);
  CHECK(rig.engine->num_models() == 3);  // in use, and the two newest
  GroupRequest new_group = SimpleGroup(2, 20, 2, 40);
  new_group.model = 5;
  REQUIRE_OK(rig.engine->AddGroup(new_group));
  GroupRequest gone = SimpleGroup(3, 20, 2, 40);
  gone.model = 2;
  CHECK(rig.engine->AddGroup(gone).code() == StatusCode::kNotFound);
  const auto results = rig.RunAll();
  CHECK(results.at({1, 0}).policy_version == 10);
  CHECK(results.at({1, 1}).token_ids == Expected(old_group, 1).token_ids);
  CHECK(results.at({2, 0}).policy_version == 14);
  CHECK(results.at({2, 0}).token_ids == Expected(new_group, 0).token_ids);
  CHECK(rig.engine->num_models() == 2);
}

TEST_CASE("Engine: a dropped version leaves nothing in the cache", "[unit][engine]") {
  EngineOptions options;
  options.num_kept_models = 1;
  Rig rig(64, options);
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, 48, 1, 4)));
  rig.RunAll();
  CHECK(rig.engine->cache().index().size() > 0);
  rig.AddModel(2, 1);
  CHECK(rig.engine->cache().index().size() == 0);
}

TEST_CASE("Engine: an aborted group gives everything back", "[unit][engine]") {
  Rig rig;
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, 50, 8, 30)));
  SECTION("before its first step") {}
  SECTION("in the middle") {
    for (int i = 0; i < 5; ++i) rig.engine->Step();
  }
  CHECK(rig.engine->Abort(1));
  CHECK_FALSE(rig.engine->Abort(1));
  CHECK_FALSE(rig.engine->has_work());
  CHECK(rig.engine->cache().num_used() == 0);
}

TEST_CASE("Engine: requests that cannot run are refused with the reason", "[unit][engine]") {
  Rig rig(2);
  rig.AddModel(1, 0);
  const auto code = [&](GroupRequest group) {
    return rig.engine->AddGroup(std::move(group)).code();
  };
  CHECK(code(SimpleGroup(1, 96, 1, 1)) == StatusCode::kOutOfRange);
  CHECK(code(SimpleGroup(1, 0, 1, 1)) == StatusCode::kInvalidArgument);
  CHECK(code(SimpleGroup(1, 4, 0, 1)) == StatusCode::kInvalidArgument);
  CHECK(code(SimpleGroup(1, 4, 1, 0)) == StatusCode::kInvalidArgument);
  CHECK(code(SimpleGroup(1, 30, 1, 10)) == StatusCode::kResourceExhausted);
  GroupRequest group = SimpleGroup(1, 4, 1, 1);
  group.prompt_token_ids[2] = kVocab;
  CHECK(code(group) == StatusCode::kInvalidArgument);
  group = SimpleGroup(1, 4, 1, 1);
  group.law.top_p = 2;
  CHECK(code(group) == StatusCode::kInvalidArgument);
  CHECK_FALSE(rig.engine->has_work());
}

TEST_CASE("Engine: the positions of the model bound a completion", "[unit][engine]") {
  Rig rig;
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, 90, 1, 1'000'000)));
  const auto results = rig.RunAll();
  CHECK(results.at({1, 0}).token_ids.size() == 6);
  CHECK(results.at({1, 0}).end == CompletionEnd::kLength);
}

TEST_CASE("Engine: a batch that fails fails its samples and nothing else", "[unit][engine]") {
  Rig rig;
  rig.AddModel(1, 0);
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(1, 20, 3, 10)));
  SECTION("in prefill") {
    rig.runner->before_batch = [](const BatchLayout&) { return Internal("no luck"); };
  }
  SECTION("while decoding") {
    rig.runner->before_batch = [](const BatchLayout& batch) {
      return batch.token_ids.size() <= 3 ? Internal("no luck") : OkStatus();
    };
  }
  SECTION("logits that are no numbers") {
    rig.runner->edit_logits = [](std::span<float> logits) { logits[0] /= 0.0F; };
  }
  const auto results = rig.RunAll();
  CHECK(results.size() == 3);
  CHECK_FALSE(results.at({1, 0}).status.ok());
  rig.runner->before_batch = nullptr;
  rig.runner->edit_logits = nullptr;
  REQUIRE_OK(rig.engine->AddGroup(SimpleGroup(2, 20, 3, 10)));
  for (const auto& [key, sample] : rig.RunAll()) REQUIRE_OK(sample.status);
}

}  // namespace rollcall
