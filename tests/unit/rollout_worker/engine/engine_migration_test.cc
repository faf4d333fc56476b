// Sequences that move between engines while they decode, and destinations that are lost.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/fake_model.h"

namespace rollcall {
namespace {

using testing::FakeModel;
using testing::FakeModelRunner;

constexpr int64_t kVocab = 40;
constexpr int32_t kBlocks = 64;
constexpr int32_t kBlockSize = 4;

using Key = std::pair<uint64_t, int32_t>;
using Results = std::map<Key, CompletedSample>;

struct Worker {
  Worker() {
    EngineOptions options;
    options.block_size = kBlockSize;
    options.scheduler = {.max_sequences = 12, .max_batched_tokens = 64};
    options.swap_bytes = 1 << 20;
    options.num_swap_threads = 0;
    auto fake = std::make_unique<FakeModelRunner>(kVocab, kBlocks, kBlockSize);
    runner = fake.get();
    ModelConfig config;
    config.vocab_size = kVocab;
    config.max_positions = 96;
    engine = std::make_unique<Engine>(options, config, kBlocks, std::move(fake),
                                      EngineMetrics(*metrics), clock);
    REQUIRE_OK(engine->AllocateSwap());
    engine->AddModel(1, 10, std::make_shared<FakeModel>(7));
  }
  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  SystemClock clock;
  FakeModelRunner* runner = nullptr;
  std::unique_ptr<Engine> engine;
};

GroupRequest MakeGroup(uint64_t id, CounterRandom& random) {
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  const size_t num_prompt = 1 + random.Below(30);
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(random.Below(9)));
  }
  for (size_t i = 0; i < 1 + random.Below(3); ++i) group.stream_keys.push_back(100 * id + i);
  group.max_new_tokens = static_cast<int32_t>(10 + random.Below(50));
  group.is_streaming = id % 2 == 0;
  return group;
}

void Take(std::vector<CompletedSample> samples, Results* results) {
  for (CompletedSample& sample : samples) {
    REQUIRE_OK(sample.status);
    const Key key{sample.group_id, sample.index};
    REQUIRE(results->emplace(key, std::move(sample)).second);
  }
}

// A sequence of engine `source` that runs on engine `destination` as group `away_id`.
struct Away {
  Key key;
  size_t destination = 0;
};

}  // namespace

TEST_CASE("Engine: migrated sequences end as if they had not moved", "[unit][engine]") {
  for (uint64_t round = 0; round < 6; ++round) {
    CounterRandom random(40 + round);
    std::vector<GroupRequest> groups;
    for (uint64_t id = 1; id <= 16; ++id) groups.push_back(MakeGroup(id, random));
    Results expected;
    {
      Worker alone;
      for (const GroupRequest& group : groups) REQUIRE_OK(alone.engine->AddGroup(group));
      while (alone.engine->has_work()) Take(alone.engine->Step().completed, &expected);
    }

    Worker source;
    std::vector<std::unique_ptr<Worker>> others;
    for (int i = 0; i < 2; ++i) others.push_back(std::make_unique<Worker>());
    Results results;
    std::map<Key, std::vector<int32_t>> streamed;
    std::map<uint64_t, Away> away;  // by group id at the destination
    uint64_t next_away = 1000;
    size_t next_group = 0;
    int num_moved = 0;
    int num_lost = 0;
    int num_abandoned = 0;
    const auto take_source = [&](StepResult result) {
      for (const StreamedTokens& tokens : result.streamed) {
        auto& all = streamed[{tokens.group_id, tokens.index}];
        REQUIRE(tokens.first == static_cast<int32_t>(all.size()));
        all.insert(all.end(), tokens.token_ids.begin(), tokens.token_ids.end());
      }
      Take(std::move(result.completed), &results);
    };
    const auto step_all = [&] {
      if (source.engine->has_work()) take_source(source.engine->Step());
      for (size_t i = 0; i < others.size(); ++i) {
        if (!others[i]->engine->has_work()) continue;
        StepResult result = others[i]->engine->Step();
        for (const StreamedTokens& tokens : result.streamed) {
          const Away& from = away.at(tokens.group_id);
          std::optional<CompletionEnd> end;
          for (const CompletedSample& sample : result.completed) {
            if (sample.group_id == tokens.group_id) end = sample.end;
          }
          StepResult at_source;
          REQUIRE_OK(
              source.engine->Deliver(from.key.first, from.key.second, tokens, end, &at_source));
          take_source(std::move(at_source));
          if (end) away.erase(tokens.group_id);
        }
      }
    };
    // Moves one sequence in stages; gives up at a random point now and then.
    const auto move = [&](const MovableSequence& moving) {
      const Key key{moving.group_id, moving.index};
      const size_t to = random.Below(others.size());
      Engine& from_engine = *source.engine;
      Engine& to_engine = *others[to]->engine;
      const uint64_t give_up_at = random.Below(12);
      auto reservation = to_engine.Reserve(moving.num_tokens);
      if (!reservation.ok()) return;
      std::vector<std::byte> bytes;
      const auto before = from_engine.Settled(key.first, key.second);
      REQUIRE_OK(before.status());
      const int32_t settled = before->num_blocks;
      REQUIRE_OK(from_engine.ReadBlocks(key.first, key.second, 0, settled, &bytes));
      REQUIRE_OK(to_engine.WriteReserved(*reservation, 0, bytes));
      if (give_up_at == 0) {
        to_engine.DropReservation(*reservation);
        ++num_abandoned;
        return;
      }
      // It goes on meanwhile; it may end, or be preempted.
      for (uint64_t i = random.Below(6); i > 0; --i) step_all();
      auto state = from_engine.Detach(key.first, key.second, before->epoch);
      if (!state.ok()) {
        to_engine.DropReservation(*reservation);
        ++num_abandoned;
        return;
      }
      const int32_t held = (state->num_computed + kBlockSize - 1) / kBlockSize;
      REQUIRE_OK(from_engine.ReadBlocks(key.first, key.second, settled, held - settled, &bytes));
      Status moved = to_engine.GrowReservation(*reservation, state->num_computed);
      if (moved.ok()) moved = to_engine.WriteReserved(*reservation, settled, bytes);
      if (!moved.ok() || give_up_at == 1) {
        to_engine.DropReservation(*reservation);
        REQUIRE_OK(from_engine.Attach(key.first, key.second));
        ++num_abandoned;
        return;
      }
      const uint64_t away_id = next_away++;
      state->request.group_id = away_id;
      REQUIRE_OK(to_engine.Adopt(*reservation, *std::move(state)));
      REQUIRE_OK(from_engine.Release(key.first, key.second));
      away[away_id] = {key, to};
      ++num_moved;
    };
    while (next_group < groups.size() || source.engine->has_work() || !away.empty()) {
      if (next_group < groups.size() && random.Below(4) == 0) {
        REQUIRE_OK(source.engine->AddGroup(groups[next_group++]));
      }
      if (random.Below(3) == 0) {
        const auto movable = source.engine->ListMovable();
        if (!movable.empty()) move(movable[random.Below(movable.size())]);
      }
      if (random.Below(60) == 0) {  // a destination dies with all that it has
        const size_t dead = random.Below(others.size());
        others[dead] = std::make_unique<Worker>();
        for (auto it = away.begin(); it != away.end();) {
          if (it->second.destination != dead) {
            ++it;
            continue;
          }
          REQUIRE_OK(source.engine->Reclaim(it->second.key.first, it->second.key.second));
          it = away.erase(it);
          ++num_lost;
        }
      }
      step_all();
    }
    CHECK(num_moved > 10);
    CHECK(num_abandoned + num_lost > 0);
    REQUIRE(results.size() == expected.size());
    for (const auto& [key, sample] : results) {
      REQUIRE(sample.token_ids == expected.at(key).token_ids);
      REQUIRE(sample.behavior_logprobs == expected.at(key).behavior_logprobs);
      if (key.first % 2 == 0) REQUIRE(streamed.at(key) == sample.token_ids);
    }
    CHECK(source.runner->complaint.empty());
    CHECK(source.engine->cache().num_used() == 0);
    for (const auto& other : others) {
      CHECK(other->runner->complaint.empty());
      CHECK(other->engine->cache().num_used() == 0);
    }
  }
}

TEST_CASE("Engine: what comes from another worker is checked", "[unit][engine]") {
  Worker worker;
  Engine& engine = *worker.engine;
  CHECK(engine.Reserve(kBlocks * kBlockSize + 1).status().code() == StatusCode::kResourceExhausted);
  const auto reserve = [&] {
    auto id = engine.Reserve(8);
    REQUIRE_OK(id.status());
    return *id;
  };
  const std::vector<std::byte> block(static_cast<size_t>(worker.runner->block_bytes()));
  const ReservationId id = reserve();
  REQUIRE_OK(engine.WriteReserved(id, 1, block));
  CHECK(engine.WriteReserved(id, 2, block).code() == StatusCode::kInvalidArgument);
  CHECK(engine.WriteReserved(id, -1, block).code() == StatusCode::kInvalidArgument);
  CHECK(engine.WriteReserved(id, 0, std::span(block).first(3)).code() ==
        StatusCode::kInvalidArgument);
  CHECK(engine.WriteReserved(id + 1, 0, block).code() == StatusCode::kNotFound);
  engine.DropReservation(id);
  CHECK(engine.cache().num_used() == 0);

  SequenceState state;
  state.policy_version = 10;
  state.num_computed = 5;
  state.request.group_id = 1;
  state.request.model = 1;
  state.request.prompt_token_ids = {1, 2, 3, 4, 5};
  state.request.stream_keys = {1};
  state.request.max_new_tokens = 10;
  state.request.started = {
      {.token_ids = {6}, .behavior_logprobs = {-1}, .model_logprobs = {}, .policy_versions = {10}}};
  const auto code = [&](const SequenceState& bad) { return engine.Adopt(reserve(), bad).code(); };
  SequenceState bad = state;
  bad.policy_version = 9;
  CHECK(code(bad) == StatusCode::kFailedPrecondition);
  bad = state;
  bad.request.model = 4;
  CHECK(code(bad) == StatusCode::kNotFound);
  bad = state;
  bad.num_computed = 6;  // the last token's logits must still come
  CHECK(code(bad) == StatusCode::kInvalidArgument);
  bad = state;
  bad.request.started[0].token_ids[0] = kVocab;
  CHECK(code(bad) == StatusCode::kInvalidArgument);
  CHECK(engine.Adopt(77, state).code() == StatusCode::kNotFound);
  CHECK(engine.cache().num_used() == 0);
}

}  // namespace rollcall
