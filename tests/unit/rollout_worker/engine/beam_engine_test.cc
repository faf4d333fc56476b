// Beam search as a mode of a group: what the search alone finds, whatever else is in the batch and
// however short memory is.
#include <algorithm>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "rollout_worker/sampler/beam_search.h"
#include "tests/unit/rollout_worker/engine/fake_engine.h"

namespace rollcall {
namespace {

using testing::FakeEngine;
using testing::FakeLogits;
using testing::MakeRandomEngine;
using testing::MakeRandomGroup;

constexpr int64_t kVocab = FakeEngine::kVocab;

GroupRequest BeamGroup(uint64_t id, size_t num_prompt, int32_t num_beams, int32_t max_new) {
  CounterRandom random(id);
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(random.Below(kVocab)));
  }
  group.stream_keys = {1, 2};
  group.max_new_tokens = max_new;
  group.stop_token_ids = {0, 1};
  group.beam_search = BeamOptions{.num_beams = num_beams};
  return group;
}

GroupRequest RandomBeamGroup(uint64_t id, ModelId model, CounterRandom& random) {
  GroupRequest group = MakeRandomGroup(id, model, random);
  group.law = {};
  const auto num_beams = static_cast<int32_t>(1 + random.Below(7));
  group.beam_search =
      BeamOptions{.num_beams = num_beams,
                  .length_penalty = static_cast<double>(random.Below(5)) / 2 - 0.5,
                  .early_stopping = static_cast<BeamOptions::EarlyStopping>(random.Below(3))};
  group.stream_keys.resize(std::min<size_t>(group.stream_keys.size(), num_beams));
  group.max_new_tokens = static_cast<int32_t>(1 + random.Below(30));
  return group;
}

// Without an engine.
std::vector<BeamSearch::Finished> Expected(const GroupRequest& group) {
  const size_t room = FakeEngine::kPositions - group.prompt_token_ids.size();
  const auto longest =
      static_cast<int32_t>(std::min<size_t>(static_cast<size_t>(group.max_new_tokens), room));
  BeamSearch search(*group.beam_search,
                    {.max_new_tokens = longest, .stop_token_ids = group.stop_token_ids}, kVocab);
  while (!search.is_done()) {
    for (size_t b = 0; b < search.live().size(); ++b) {
      std::vector<int32_t> tokens = group.prompt_token_ids;
      const std::vector<int32_t>& sampled = search.live()[b].tokens;
      tokens.insert(tokens.end(), sampled.begin(), sampled.end());
      const auto logits = FakeLogits(static_cast<uint64_t>(group.model), tokens, kVocab);
      REQUIRE_OK(search.Expand(b, logits));
    }
    search.Advance();
  }
  return search.TakeBest();
}

void CheckBest(const GroupRequest& group, const std::vector<BeamSearch::Finished>& expected,
               const FakeEngine::Results& results) {
  for (size_t i = 0; i < group.stream_keys.size(); ++i) {
    const CompletedSample& sample = results.at({group.group_id, static_cast<int32_t>(i)});
    REQUIRE_OK(sample.status);
    REQUIRE(sample.token_ids == expected[i].tokens);
    REQUIRE(sample.behavior_logprobs == expected[i].logprobs);
    REQUIRE(sample.beam_score == expected[i].score);
    const bool is_stop = sample.token_ids.back() <= 1;
    REQUIRE(sample.end == (is_stop ? CompletionEnd::kStop : CompletionEnd::kLength));
    REQUIRE(sample.policy_versions ==
            std::vector<int64_t>(sample.token_ids.size(), 10 * group.model));
    REQUIRE(sample.model_logprobs ==
            (group.wants_model_logprobs ? expected[i].logprobs : std::vector<float>()));
    REQUIRE(sample.prompt.logprobs.size() ==
            (group.wants_prompt_logprobs && i == 0 ? group.prompt_token_ids.size() - 1 : 0));
    REQUIRE(sample.times.queued <= sample.times.scheduled);
    REQUIRE(sample.times.scheduled <= sample.times.first_token);
    REQUIRE(sample.times.first_token <= sample.times.last_token);
  }
}

}  // namespace

TEST_CASE("Engine: beam searches depend neither on batch, chunks, memory nor preemption",
          "[unit][engine]") {
  CounterRandom random(91);
  std::vector<GroupRequest> groups;
  std::vector<std::vector<BeamSearch::Finished>> expected;
  for (uint64_t id = 0; id < 16; ++id) {
    const auto model = static_cast<ModelId>(1 + id % 2);
    const bool is_search = random.Below(4) != 0;
    groups.push_back(is_search ? RandomBeamGroup(id, model, random)
                               : MakeRandomGroup(id, model, random));
    groups.back().priority = static_cast<int32_t>(random.Below(3));
    groups.back().tenant = std::string(1, random.Below(2) == 0 ? 'a' : 'b');
    groups.back().wants_prompt_logprobs = random.Below(4) == 0;
    groups.back().wants_model_logprobs = is_search && random.Below(2) == 0;
    expected.push_back(is_search ? Expected(groups.back()) : std::vector<BeamSearch::Finished>());
  }
  FakeEngine::Results first;
  for (int round = 0; round < 80; ++round) {
    testing::RandomEngine made = MakeRandomEngine(random);
    made.options.scheduler.fair_share = {.is_enabled = random.Below(2) == 0, .interval_steps = 3};
    FakeEngine fake(made.num_blocks, made.options);
    fake.AddModel(1);
    fake.AddModel(2);
    size_t next = 0;
    int64_t num_steps = 0;
    while (next < groups.size() || fake.engine->has_work()) {
      if (next < groups.size() && (round == 0 || random.Below(3) == 0)) {
        REQUIRE_OK(fake.engine->AddGroup(groups[next++]));
      } else {
        fake.Step();
        REQUIRE(++num_steps < 200'000);
      }
    }
    fake.CheckEmpty();
    if (round == 0) first = fake.results;
    REQUIRE(fake.results.size() == first.size());
    for (const GroupRequest& group : groups) {
      if (group.beam_search) {
        CheckBest(group, expected[group.group_id], fake.results);
        continue;
      }
      for (size_t i = 0; i < group.stream_keys.size(); ++i) {
        const std::pair key(group.group_id, static_cast<int32_t>(i));
        REQUIRE(fake.results.at(key).token_ids == first.at(key).token_ids);
        REQUIRE_FALSE(fake.results.at(key).beam_score);
      }
    }
  }
}

TEST_CASE("Engine: beams share their blocks, and the prompt is computed once", "[unit][engine]") {
  constexpr int32_t kPrompt = 50;
  constexpr int32_t kNew = 20;
  constexpr int32_t kBeams = 6;
  EngineOptions options;
  options.block_size = 4;
  FakeEngine fake(1000, options);
  fake.AddModel(1);
  GroupRequest group = BeamGroup(1, kPrompt, kBeams, kNew);
  group.stop_token_ids.clear();
  REQUIRE_OK(fake.engine->AddGroup(group));
  int32_t high_water = 0;
  int num_steps = 0;
  while (fake.engine->has_work()) {
    fake.Step();
    ++num_steps;
    high_water = std::max(high_water, fake.engine->cache().num_used());
  }
  fake.CheckEmpty();
  CheckBest(group, Expected(group), fake.results);
  CHECK(num_steps == kNew);
  // The last token of a beam is never computed.
  CHECK(fake.runner->num_computed == kPrompt + kBeams * (kNew - 1));
  // At most what beams that part at once would take.
  const int32_t shared = kPrompt / 4;
  CHECK(high_water <= shared + kBeams * ((kPrompt + kNew - 1 + 3) / 4 - shared));
  CHECK(high_water >= (kPrompt + kNew - 1 + 3) / 4 + kBeams - 1);
}

TEST_CASE("Engine: 100,000 events with searches leak no block", "[unit][engine]") {
  CounterRandom random(5);
  int64_t num_events = 0;
  int num_finished = 0;
  for (int round = 0; num_events < 100'000; ++round) {
    const testing::RandomEngine made = MakeRandomEngine(random);
    FakeEngine fake(made.num_blocks, made.options);
    fake.AddModel(1);
    std::map<uint64_t, size_t> open;  // samples that were not reported
    uint64_t next_id = 1;
    const auto step = [&] {
      for (const CompletedSample& sample : fake.engine->Step().completed) {
        REQUIRE_OK(sample.status);
        const auto group = open.find(sample.group_id);
        REQUIRE(group != open.end());
        if (--group->second == 0) open.erase(group);
        ++num_finished;
      }
    };
    for (int i = 0; i < 2500; ++i, ++num_events) {
      const uint64_t any = 1 + random.Below(next_id);
      const uint64_t event = random.Below(12);
      if (event == 0 && open.size() < 12) {
        GroupRequest group = random.Below(4) == 0 ? MakeRandomGroup(next_id, 1, random)
                                                  : RandomBeamGroup(next_id, 1, random);
        group.priority = static_cast<int32_t>(random.Below(3));
        open[next_id++] = group.stream_keys.size();
        REQUIRE_OK(fake.engine->AddGroup(std::move(group)));
      } else if (event == 1 && random.Below(3) == 0) {
        CHECK(fake.engine->Abort(any) == (open.erase(any) == 1));
      } else if (event == 2) {
        fake.engine->SetPriority(any, static_cast<int32_t>(random.Below(3)));
      } else {
        step();
      }
      REQUIRE(fake.engine->num_running() <=
              std::max<size_t>(8, static_cast<size_t>(made.options.scheduler.max_sequences)));
    }
    int64_t rest = 0;
    while (fake.engine->has_work()) {
      step();
      REQUIRE(++rest < 100'000);
    }
    CHECK(open.empty());
    fake.CheckEmpty();
  }
  CHECK(num_finished > 1000);
}

TEST_CASE("Engine: a search that is aborted in the middle of a round gives everything back",
          "[unit][engine]") {
  EngineOptions options;
  options.scheduler.max_batched_tokens = 2;  // four beams take two steps
  FakeEngine fake(64, options);
  fake.AddModel(1);
  for (int num_steps = 1; num_steps < 24; ++num_steps) {
    REQUIRE_OK(fake.engine->AddGroup(BeamGroup(1, 9, 4, 12)));
    for (int i = 0; i < num_steps && fake.engine->has_work(); ++i) fake.engine->Step();
    fake.engine->Abort(1);
    CHECK_FALSE(fake.engine->has_work());
    fake.CheckEmpty();
  }
}

TEST_CASE("Engine: a batch that fails fails the searches in it and nothing else",
          "[unit][engine]") {
  FakeEngine fake(64, {});
  fake.AddModel(1);
  const int num_steps = GENERATE(0, 4);
  REQUIRE_OK(fake.engine->AddGroup(BeamGroup(1, 9, 4, 12)));
  for (int i = 0; i < num_steps; ++i) fake.Step();
  StatusCode code = StatusCode::kInternal;
  SECTION("the runner") {
    fake.runner->before_batch = [](const BatchLayout&) { return Internal("no luck"); };
  }
  SECTION("logits that are no numbers") {
    fake.runner->edit_logits = [](std::span<float> logits) {
      logits[logits.size() - 3] = std::numeric_limits<float>::infinity();
    };
    code = StatusCode::kDataLoss;
  }
  fake.RunAll();
  REQUIRE(fake.results.size() == 2);
  CHECK(fake.results.at({1, 0}).status.code() == code);
  CHECK(fake.results.at({1, 1}).status.code() == code);
  fake.runner->before_batch = nullptr;
  fake.runner->edit_logits = nullptr;
  const GroupRequest group = BeamGroup(2, 9, 4, 12);
  REQUIRE_OK(fake.engine->AddGroup(group));
  fake.RunAll();
  CheckBest(group, Expected(group), fake.results);
}

TEST_CASE("Engine: a search stays with its weights and its worker", "[unit][engine]") {
  const UpdateMode mode = GENERATE(UpdateMode::kDrain, UpdateMode::kRecompute, UpdateMode::kKeep);
  const int num_steps = GENERATE(0, 1, 5);
  EngineOptions options;
  options.num_kept_models = 1;
  options.scheduler.max_batched_tokens = 7;
  FakeEngine fake(64, options);
  fake.AddModel(1);
  const GroupRequest group = BeamGroup(1, 9, 4, 12);
  REQUIRE_OK(fake.engine->AddGroup(group));
  for (int i = 0; i < num_steps; ++i) fake.Step();
  CHECK(fake.engine->ListMovable().empty());
  CHECK(fake.engine->Settled(1, 0).status().code() == StatusCode::kFailedPrecondition);
  fake.AddModel(2);
  REQUIRE_OK(fake.engine->SwitchGroups(2, mode));
  CHECK(fake.engine->num_models() == 2);
  fake.RunAll();
  CHECK(fake.engine->num_models() == 1);
  CheckBest(group, Expected(group), fake.results);
}

TEST_CASE("Engine: what a search has no use for is refused by name", "[unit][engine]") {
  FakeEngine fake(64, {});
  fake.AddModel(1);
  const auto refused = [&](const std::string& word,
                           const std::function<void(GroupRequest*)>& change) {
    GroupRequest group = BeamGroup(1, 5, 4, 3);
    change(&group);
    const Status status = fake.engine->AddGroup(std::move(group));
    INFO(word << ": " << Message(status));
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find(word) != std::string::npos);
  };
  refused("temperature", [](GroupRequest* group) { group->law.temperature = 0; });
  refused("top_k", [](GroupRequest* group) { group->law.top_k = 3; });
  refused("penalties", [](GroupRequest* group) { group->law.presence_penalty = 1; });
  refused("bias", [](GroupRequest* group) { group->law.logit_bias = {{1, 1.0F}}; });
  refused("allowed", [](GroupRequest* group) { group->law.allowed_token_ids = {1}; });
  refused("min_new_tokens", [](GroupRequest* group) { group->law.min_new_tokens = 2; });
  refused("stop strings", [](GroupRequest* group) {
    group->make_stop_watcher = [] { return std::unique_ptr<StopWatcher>(); };
  });
  refused("streaming", [](GroupRequest* group) { group->is_streaming = true; });
  refused("num_top_logprobs", [](GroupRequest* group) { group->num_top_logprobs = 1; });
  refused("kept sets", [](GroupRequest* group) { group->wants_kept_sets = true; });
  refused("KV budget", [](GroupRequest* group) { group->heavy_hitters = {2, 2}; });
  refused("started", [](GroupRequest* group) {
    group->started = {{{3}, {-1}, {}, {}, {}, {10}}, {{3}, {-1}, {}, {}, {}, {10}}};
  });
  refused("num_beams", [](GroupRequest* group) { group->beam_search->num_beams = 65; });
  refused("length_penalty", [](GroupRequest* group) { group->beam_search->length_penalty = 11; });
  refused("vocabulary", [](GroupRequest* group) { group->beam_search->num_beams = 41; });
  refused("2 sequences", [](GroupRequest* group) { group->beam_search->num_beams = 1; });
  refused("stop tokens",
          [](GroupRequest* group) { group->stop_token_ids.resize(kMaxBeamStopTokens + 1); });
  CHECK_FALSE(fake.engine->has_work());
}

}  // namespace rollcall
