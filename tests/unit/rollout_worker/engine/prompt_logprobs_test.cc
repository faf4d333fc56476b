// Log-probabilities of prompts: the same numbers however the prompt was cut and whatever happened
// to its blocks in between.
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/rollout_worker/engine/fake_engine.h"

namespace rollcall {
namespace {

using testing::FakeEngine;
using testing::FakeLogits;
using testing::MakeRandomEngine;
using testing::MakeRandomGroup;

constexpr int64_t kVocab = FakeEngine::kVocab;

// Without an engine.
PromptScores Expected(const GroupRequest& group) {
  PromptScores expected;
  Sampler sampler(kVocab);
  const std::span<const int32_t> prompt = group.prompt_token_ids;
  for (size_t i = 1; i < prompt.size(); ++i) {
    const auto logits = FakeLogits(static_cast<uint64_t>(group.model), prompt.first(i), kVocab);
    REQUIRE_OK(sampler.SetRow(logits, SamplingLaw()));
    expected.logprobs.push_back(sampler.ModelLogprob(prompt[i]));
    const auto rank = std::count_if(logits.begin(), logits.end(),
                                    [&](float x) { return x >= logits[prompt[i]]; });
    expected.ranks.push_back(static_cast<int32_t>(rank));
    if (group.num_prompt_top_logprobs > 0) {
      expected.top_logprobs.push_back(sampler.TopLogprobs(group.num_prompt_top_logprobs));
    }
  }
  return expected;
}

void CheckScores(const PromptScores& scores, const PromptScores& expected) {
  REQUIRE(scores.logprobs == expected.logprobs);
  REQUIRE(scores.ranks == expected.ranks);
  REQUIRE(scores.top_logprobs.size() == expected.top_logprobs.size());
  for (size_t i = 0; i < scores.top_logprobs.size(); ++i) {
    const auto& top = scores.top_logprobs[i];
    REQUIRE(top.size() == expected.top_logprobs[i].size());
    for (size_t k = 0; k < top.size(); ++k) {
      REQUIRE(top[k].token == expected.top_logprobs[i][k].token);
      REQUIRE(top[k].logprob == expected.top_logprobs[i][k].logprob);
    }
  }
}

GroupRequest ScoredGroup(uint64_t id, size_t num_prompt, size_t num_samples) {
  CounterRandom random(id);
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(random.Below(kVocab)));
  }
  for (size_t i = 0; i < num_samples; ++i) group.stream_keys.push_back(10 * id + i);
  group.max_new_tokens = 12;
  group.wants_prompt_logprobs = true;
  return group;
}

}  // namespace

TEST_CASE("Prompt log-probabilities depend neither on batch, chunks, memory nor preemption",
          "[unit][engine]") {
  CounterRandom random(31);
  std::vector<GroupRequest> groups;
  for (uint64_t id = 0; id < 24; ++id) {
    groups.push_back(MakeRandomGroup(id, static_cast<ModelId>(1 + id % 2), random));
    groups.back().wants_prompt_logprobs = random.Below(4) != 0;
    if (groups.back().wants_prompt_logprobs && id % 2 == 0) {
      groups.back().num_prompt_top_logprobs = static_cast<int32_t>(1 + random.Below(5));
    }
    groups.back().priority = static_cast<int32_t>(random.Below(3));
  }
  FakeEngine::Results alone;
  for (int round = 0; round < 60; ++round) {
    const testing::RandomEngine made = MakeRandomEngine(random);
    FakeEngine fake(made.num_blocks, made.options);
    fake.AddModel(1);
    fake.AddModel(2);
    // Some come while others run, so that the urgent ones take places away.
    size_t next = 0;
    while (next < groups.size() || fake.engine->has_work()) {
      if (next < groups.size() && (round == 0 || random.Below(3) == 0)) {
        REQUIRE_OK(fake.engine->AddGroup(groups[next++]));
      } else {
        fake.Step();
      }
    }
    fake.CheckEmpty();
    if (round == 0) alone = fake.results;
    for (const auto& [key, sample] : fake.results) {
      REQUIRE_OK(sample.status);
      REQUIRE(sample.token_ids == alone.at(key).token_ids);
      const GroupRequest& group = groups[key.first];
      const bool is_told = group.wants_prompt_logprobs && key.second == 0;
      CheckScores(sample.prompt, is_told ? Expected(group) : PromptScores());
      if (is_told) CHECK(sample.num_cached_prompt_tokens == 0);
    }
  }
}

TEST_CASE("Prompt log-probabilities: a cached prompt is computed again, and found by others",
          "[unit][engine]") {
  FakeEngine fake(64, {});
  fake.AddModel(1);
  GroupRequest group = ScoredGroup(1, 48, 1);
  group.max_new_tokens = 1;
  for (const uint64_t id : {1, 2}) {
    group.group_id = id;
    REQUIRE_OK(fake.engine->AddGroup(group));
    fake.RunAll();
    CHECK(fake.runner->num_computed == 48 * static_cast<int64_t>(id));
    CheckScores(fake.results.at({id, 0}).prompt, Expected(group));
  }
  group.group_id = 3;
  group.wants_prompt_logprobs = false;
  REQUIRE_OK(fake.engine->AddGroup(group));
  fake.RunAll();
  CHECK(fake.runner->num_computed == 2 * 48 + 16);
}

TEST_CASE("Prompt log-probabilities are of the weights that the prompt was computed with last",
          "[unit][engine]") {
  const UpdateMode mode = GENERATE(UpdateMode::kRecompute, UpdateMode::kKeep);
  const int num_steps = GENERATE(0, 3, 8);
  EngineOptions options;
  options.scheduler.max_batched_tokens = 6;
  FakeEngine fake(64, options);
  fake.runner->allows_other_models = true;
  fake.AddModel(1);
  GroupRequest group = ScoredGroup(1, 30, 2);
  REQUIRE_OK(fake.engine->AddGroup(group));
  for (int i = 0; i < num_steps; ++i) fake.Step();
  fake.AddModel(2);
  REQUIRE_OK(fake.engine->SwitchGroups(2, mode));
  fake.RunAll();
  // After 8 steps the prompt was there, under the old weights.
  group.model = num_steps == 8 ? 1 : 2;
  CheckScores(fake.results.at({1, 0}).prompt, Expected(group));
}

TEST_CASE("Prompt log-probabilities of a completion that began elsewhere", "[unit][engine]") {
  EngineOptions options;
  options.scheduler.max_batched_tokens = 7;
  FakeEngine fake(64, options);
  fake.AddModel(1);
  GroupRequest group = ScoredGroup(1, 30, 2);
  const StartedCompletion started{
      .token_ids = {3, 4, 5}, .behavior_logprobs = {-1, -1, -1}, .policy_versions = {10, 10, 10}};
  group.started = {started, started};
  REQUIRE_OK(fake.engine->AddGroup(group));
  fake.RunAll();
  CheckScores(fake.results.at({1, 0}).prompt, Expected(group));
  CheckScores(fake.results.at({1, 1}).prompt, {});
}

TEST_CASE("Prompt log-probabilities: a sequence moves when its prompt is there", "[unit][engine]") {
  EngineOptions options;
  options.scheduler.max_batched_tokens = 7;
  options.block_size = 4;
  FakeEngine source(64, options);
  FakeEngine destination(64, options);
  source.AddModel(1);
  destination.AddModel(1);
  GroupRequest group = ScoredGroup(1, 30, 1);
  group.started = {{.token_ids = {3}, .behavior_logprobs = {-1}, .policy_versions = {10}}};
  REQUIRE_OK(source.engine->AddGroup(group));
  while (!source.engine->Settled(1, 0).ok()) {
    CHECK(source.engine->ListMovable().empty());
    source.Step();
    REQUIRE(source.results.empty());
  }
  REQUIRE_OK_AND_ASSIGN(const SettledBlocks settled, source.engine->Settled(1, 0));
  CHECK(settled.num_blocks >= 7);
  REQUIRE_OK_AND_ASSIGN(SequenceState state, source.engine->Detach(1, 0, settled.epoch));
  CHECK_FALSE(state.request.wants_prompt_logprobs);
  const int32_t num_blocks = source.engine->cache().BlocksFor(state.num_computed);
  REQUIRE_OK_AND_ASSIGN(const ReservationId reserved,
                        destination.engine->Reserve(state.num_computed));
  std::vector<std::byte> bytes;
  REQUIRE_OK(source.engine->ReadBlocks(1, 0, 0, num_blocks, &bytes));
  REQUIRE_OK(destination.engine->WriteReserved(reserved, 0, bytes));
  state.request.group_id = 9;
  REQUIRE_OK(destination.engine->Adopt(reserved, std::move(state)));
  REQUIRE_OK(source.engine->Release(1, 0));
  destination.RunAll();
  const CompletedSample& away = destination.results.at({9, 0});
  CHECK(away.prompt.logprobs.empty());
  StepResult delivered;
  SampledTokens rest = away;
  rest.token_ids.erase(rest.token_ids.begin());
  REQUIRE_OK(source.engine->Deliver(1, 0, rest, away.end, &delivered));
  REQUIRE(delivered.completed.size() == 1);
  CheckScores(delivered.completed[0].prompt, Expected(group));
}

TEST_CASE("Prompt log-probabilities: a row of no numbers fails its group alone", "[unit][engine]") {
  FakeEngine fake(64, {});
  fake.AddModel(1);
  REQUIRE_OK(fake.engine->AddGroup(ScoredGroup(1, 20, 2)));
  GroupRequest other = ScoredGroup(2, 20, 2);
  other.wants_prompt_logprobs = false;
  REQUIRE_OK(fake.engine->AddGroup(other));
  // A scored row comes by itself, the rows to sample from together.
  fake.runner->edit_logits = [](std::span<float> logits) {
    if (logits.size() == kVocab) logits[3] = std::numeric_limits<float>::quiet_NaN();
  };
  fake.Step();
  fake.runner->edit_logits = nullptr;
  fake.RunAll();
  CHECK(fake.results.at({1, 0}).status.code() == StatusCode::kDataLoss);
  CHECK(fake.results.at({1, 1}).status.code() == StatusCode::kDataLoss);
  CHECK(fake.results.at({1, 0}).prompt.logprobs.empty());
  REQUIRE_OK(fake.results.at({2, 0}).status);
  REQUIRE_OK(fake.results.at({2, 1}).status);
}

TEST_CASE("Prompt log-probabilities: wrong numbers of alternatives are refused by name",
          "[unit][engine]") {
  FakeEngine fake(64, {});
  fake.AddModel(1);
  GroupRequest group = ScoredGroup(1, 5, 1);
  group.num_prompt_top_logprobs = kMaxTopLogprobs + 1;
  Status status = fake.engine->AddGroup(group);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(Message(status).find("num_prompt_top_logprobs") != std::string::npos);
  group.num_prompt_top_logprobs = 2;
  group.wants_prompt_logprobs = false;
  status = fake.engine->AddGroup(group);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(Message(status).find("wants_prompt_logprobs") != std::string::npos);
}

}  // namespace rollcall
