// Weight updates under running groups, swaps, priorities and completions that began elsewhere.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "tests/unit/rollout_worker/engine/fake_engine.h"

namespace rollcall {
namespace {

using testing::FakeEngine;
using testing::FakeLogits;
using testing::FakeModel;

constexpr int64_t kVocab = FakeEngine::kVocab;

// Here every sample can be made.
struct Rig : FakeEngine {
  using FakeEngine::FakeEngine;
  void RunAll() {
    FakeEngine::RunAll();
    for (const auto& [key, sample] : results) REQUIRE_OK(sample.status);
  }
};

GroupRequest MakeGroup(uint64_t id, ModelId model, CounterRandom& random) {
  GroupRequest group;
  group.group_id = id;
  group.model = model;
  const size_t num_prompt = 1 + random.Below(30);
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(i < 16 ? id % 3 : random.Below(9)));
  }
  const size_t num_samples = 1 + random.Below(4);
  for (size_t i = 0; i < num_samples; ++i) group.stream_keys.push_back(100 * id + i);
  if (random.Below(3) == 0) group.law.top_k = 10;
  group.max_new_tokens = static_cast<int32_t>(1 + random.Below(60));
  group.stop_token_ids = {0};
  return group;
}

// Replays a completion: token i must be what the weights of its recorded version give after the
// tokens before it. True for every mode in which keys and values are those of the weights.
void CheckReplay(const GroupRequest& group, const CompletedSample& sample) {
  REQUIRE(sample.token_ids.size() == sample.policy_versions.size());
  REQUIRE(sample.token_ids.size() == sample.behavior_logprobs.size());
  REQUIRE(std::is_sorted(sample.policy_versions.begin(), sample.policy_versions.end()));
  Sampler sampler(kVocab);
  const CounterRandom random(group.stream_keys[static_cast<size_t>(sample.index)]);
  std::vector<int32_t> tokens = group.prompt_token_ids;
  for (size_t i = 0; i < sample.token_ids.size(); ++i) {
    const auto seed = static_cast<uint64_t>(sample.policy_versions[i] / 10);
    const std::vector<float> logits = FakeLogits(seed, tokens, kVocab);
    REQUIRE_OK(sampler.SetRow(logits, group.law));
    const SampledToken token = sampler.Draw(random.UniformAt(i));
    REQUIRE(token.token == sample.token_ids[i]);
    REQUIRE(token.logprob == sample.behavior_logprobs[i]);
    tokens.push_back(token.token);
  }
}

EngineOptions SmallOptions(Preemption preemption, int32_t num_swap_threads) {
  EngineOptions options;
  options.block_size = 4;
  options.scheduler = {.max_sequences = 10, .max_batched_tokens = 32, .preemption = preemption};
  options.swap_bytes = 64 << 10;
  options.num_swap_threads = num_swap_threads;
  options.num_kept_models = 1;
  return options;
}

}  // namespace

TEST_CASE("Engine: random updates, preemptions and aborts read no block of another version",
          "[unit][engine]") {
  for (const Preemption preemption : {Preemption::kRecompute, Preemption::kSwap}) {
    for (uint64_t round = 0; round < 12; ++round) {
      Rig rig(40, SmallOptions(preemption, round % 2 == 0 ? 0 : 2));
      CounterRandom random(900 + round);
      std::map<uint64_t, GroupRequest> groups;
      ModelId newest = 1;
      rig.AddModel(newest);
      uint64_t next_group = 0;
      for (int step = 0; step < 1500; ++step) {
        if (rig.engine->num_running() + rig.engine->num_waiting() < 20 && random.Below(3) == 0) {
          GroupRequest group = MakeGroup(next_group, newest, random);
          group.priority = static_cast<int32_t>(random.Below(3));
          groups[next_group++] = group;
          REQUIRE_OK(rig.engine->AddGroup(std::move(group)));
        }
        if (random.Below(40) == 0) {
          rig.AddModel(++newest);
          const auto mode = random.Below(2) == 0 ? UpdateMode::kDrain : UpdateMode::kRecompute;
          REQUIRE_OK(rig.engine->SwitchGroups(newest, mode));
        }
        if (next_group > 0 && random.Below(30) == 0) {
          rig.engine->SetPriority(random.Below(next_group), static_cast<int32_t>(random.Below(3)));
        }
        if (next_group > 0 && random.Below(60) == 0) {
          const uint64_t id = random.Below(next_group);
          if (rig.engine->Abort(id)) groups.erase(id);
        }
        rig.Step();
      }
      rig.RunAll();
      size_t num_samples = 0;
      int64_t num_switched = 0;
      for (const auto& [id, group] : groups) num_samples += group.stream_keys.size();
      for (const auto& [key, sample] : rig.results) {
        if (groups.count(key.first) == 0) continue;  // ended before it was aborted
        CheckReplay(groups.at(key.first), sample);
        --num_samples;
        num_switched += sample.policy_versions.front() != sample.policy_versions.back();
      }
      CHECK(num_samples == 0);  // every sample came back once
      CHECK(num_switched > 5);
      CHECK(rig.engine->num_models() == 1);
    }
  }
}

TEST_CASE("Engine: an update with equal weights changes no token", "[unit][engine]") {
  std::map<std::pair<uint64_t, int32_t>, CompletedSample> expected;
  for (const int mode : {-1, 0, 1, 2}) {
    Rig rig(60, SmallOptions(Preemption::kSwap, 0));
    rig.engine->AddModel(1, 10, std::make_shared<FakeModel>(7));
    rig.runner->allows_other_models = true;
    CounterRandom random(4);
    for (uint64_t id = 0; id < 6; ++id) {
      REQUIRE_OK(rig.engine->AddGroup(MakeGroup(id, 1, random)));
    }
    for (int step = 0; step < 12; ++step) rig.Step();
    if (mode >= 0) {
      rig.engine->AddModel(2, 20, std::make_shared<FakeModel>(7));
      REQUIRE_OK(rig.engine->SwitchGroups(2, static_cast<UpdateMode>(mode)));
    }
    rig.RunAll();
    if (mode < 0) expected = std::move(rig.results);
    if (mode < 0) continue;
    REQUIRE(rig.results.size() == expected.size());
    for (const auto& [key, sample] : rig.results) {
      CHECK(sample.token_ids == expected.at(key).token_ids);
      CHECK(sample.behavior_logprobs == expected.at(key).behavior_logprobs);
    }
  }
}

TEST_CASE("Engine: kept keys and values are found by nobody else", "[unit][engine]") {
  Rig rig(60, SmallOptions(Preemption::kSwap, 0));
  rig.AddModel(1);
  GroupRequest group;
  group.group_id = 1;
  group.model = 1;
  group.prompt_token_ids.assign(20, 3);
  group.stream_keys = {5};
  group.max_new_tokens = 60;
  REQUIRE_OK(rig.engine->AddGroup(group));
  for (int step = 0; step < 10; ++step) rig.Step();
  rig.AddModel(2);
  rig.runner->allows_other_models = true;
  REQUIRE_OK(rig.engine->SwitchGroups(2, UpdateMode::kKeep));
  for (int step = 0; step < 10; ++step) rig.Step();
  CHECK(rig.engine->num_models() == 1);
  const int64_t computed = rig.runner->num_computed;
  GroupRequest same = group;
  same.group_id = 2;
  same.model = 2;
  REQUIRE_OK(rig.engine->AddGroup(same));
  rig.Step();
  CHECK(rig.runner->num_computed - computed == 1 + 20);  // its whole prompt
  rig.RunAll();
  CHECK(rig.results.at({1, 0}).policy_versions.front() == 10);
  CHECK(rig.results.at({1, 0}).policy_versions.back() == 20);
  rig.runner->allows_other_models = false;
  CheckReplay(same, rig.results.at({2, 0}));
}

TEST_CASE("Engine: a paused engine computes nothing and loses nothing", "[unit][engine]") {
  Rig rig(60, SmallOptions(Preemption::kSwap, 0));
  rig.AddModel(1);
  CounterRandom random(4);
  const GroupRequest group = MakeGroup(1, 1, random);
  REQUIRE_OK(rig.engine->AddGroup(group));
  rig.Step();
  rig.engine->Pause();
  CHECK_FALSE(rig.engine->has_work());
  const int64_t computed = rig.runner->num_computed;
  rig.Step();
  CHECK(rig.runner->num_computed == computed);
  rig.engine->Resume();
  rig.RunAll();
  for (const auto& [key, sample] : rig.results) CheckReplay(group, sample);
}

TEST_CASE("Engine: a completion that began elsewhere goes on as if it had not moved",
          "[unit][engine]") {
  CounterRandom random(12);
  for (uint64_t id = 0; id < 10; ++id) {
    GroupRequest group = MakeGroup(id, 1, random);
    group.stop_token_ids.clear();
    group.max_new_tokens = 30;
    Rig whole(60, SmallOptions(Preemption::kSwap, 0));
    whole.AddModel(1);
    REQUIRE_OK(whole.engine->AddGroup(group));
    whole.RunAll();
    GroupRequest rest = group;
    for (size_t i = 0; i < group.stream_keys.size(); ++i) {
      const CompletedSample& full = whole.results.at({id, static_cast<int32_t>(i)});
      const auto cut = static_cast<ptrdiff_t>(random.Below(full.token_ids.size()));
      rest.started.push_back(
          {.token_ids = {full.token_ids.begin(), full.token_ids.begin() + cut},
           .behavior_logprobs = {full.behavior_logprobs.begin(),
                                 full.behavior_logprobs.begin() + cut},
           .model_logprobs = {},
           .policy_versions = {full.policy_versions.begin(), full.policy_versions.begin() + cut}});
    }
    Rig other(60, SmallOptions(Preemption::kSwap, 0));
    other.AddModel(1);
    REQUIRE_OK(other.engine->AddGroup(rest));
    other.RunAll();
    for (const auto& [key, sample] : other.results) {
      CHECK(sample.token_ids == whole.results.at(key).token_ids);
      CHECK(sample.behavior_logprobs == whole.results.at(key).behavior_logprobs);
    }
  }
}

TEST_CASE("Engine: streamed tokens are the completion, each once and in order", "[unit][engine]") {
  Rig rig(40, SmallOptions(Preemption::kSwap, 0));
  rig.AddModel(1);
  CounterRandom random(31);
  std::map<uint64_t, GroupRequest> groups;
  for (uint64_t id = 0; id < 12; ++id) {
    groups[id] = MakeGroup(id, 1, random);
    groups[id].is_streaming = id % 2 == 0;
    REQUIRE_OK(rig.engine->AddGroup(groups[id]));
  }
  std::map<std::pair<uint64_t, int32_t>, std::vector<int32_t>> streamed;
  while (rig.engine->has_work()) {
    StepResult result = rig.engine->Step();
    for (const StreamedTokens& tokens : result.streamed) {
      auto& all = streamed[{tokens.group_id, tokens.index}];
      REQUIRE(tokens.first == static_cast<int32_t>(all.size()));
      all.insert(all.end(), tokens.token_ids.begin(), tokens.token_ids.end());
    }
    for (const CompletedSample& sample : result.completed) {
      const bool is_streaming = sample.group_id % 2 == 0;
      REQUIRE(streamed.count({sample.group_id, sample.index}) == (is_streaming ? 1 : 0));
      if (is_streaming) REQUIRE(streamed.at({sample.group_id, sample.index}) == sample.token_ids);
      CHECK(sample.times.queued <= sample.times.scheduled);
      CHECK(sample.times.scheduled <= sample.times.first_token);
      CHECK(sample.times.first_token <= sample.times.last_token);
    }
  }
}

TEST_CASE("Engine: a stop watcher ends a completion", "[unit][engine]") {
  class AfterThree final : public StopWatcher {
   public:
    bool EndsWith(int32_t) override { return ++num_tokens_ == 3; }

   private:
    int num_tokens_ = 0;
  };
  Rig rig(40, SmallOptions(Preemption::kSwap, 0));
  rig.AddModel(1);
  GroupRequest group;
  group.group_id = 1;
  group.model = 1;
  group.prompt_token_ids = {4, 5};
  group.stream_keys = {1, 2, 3};
  group.max_new_tokens = 20;
  group.make_stop_watcher = [] { return std::make_unique<AfterThree>(); };
  REQUIRE_OK(rig.engine->AddGroup(group));
  rig.RunAll();
  for (const auto& [key, sample] : rig.results) {
    CHECK(sample.token_ids.size() == 3);
    CHECK(sample.end == CompletionEnd::kStop);
  }
}

}  // namespace rollcall
