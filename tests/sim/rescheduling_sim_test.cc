// Four engines over fake models, the coordinator's plan and real moves between them, step by step:
// what rescheduling is for, without processes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "rollout_worker/migration/migration_source.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/random.h"
#include "services/coordinator/worker/rescheduler.h"
#include "tests/support/catch.h"
#include "tests/support/fake_model.h"
#include "tests/unit/coordinator/recorders.h"

namespace rollcall {
namespace {

using coordinator::EngineState;
using coordinator::PlannedMigration;
using coordinator::ReschedulerOptions;
using coordinator::Rescheduling;

constexpr int64_t kVocab = 40;
constexpr int32_t kBlocks = 64;
constexpr int32_t kBlockSize = 4;
// The coordinator looks once every so many steps; a move takes what lies between.
constexpr int kStepsPerPlan = 5;

struct Worker {
  Worker() {
    EngineOptions options;
    options.block_size = kBlockSize;
    options.scheduler = {.max_sequences = 32, .max_batched_tokens = 256};
    options.swap_bytes = 0;
    ModelConfig config;
    config.vocab_size = kVocab;
    config.max_positions = kBlocks * kBlockSize;
    engine = std::make_unique<Engine>(
        options, config, kBlocks,
        std::make_unique<testing::FakeModelRunner>(kVocab, kBlocks, kBlockSize),
        EngineMetrics(metrics), clock);
    engine->AddModel(1, 1, std::make_shared<testing::FakeModel>(7));
  }
  testing::RecordingMetrics metrics;
  SystemClock clock;
  std::unique_ptr<Engine> engine;
};

// A sequence of `source` that runs at another engine under another number.
struct Away {
  size_t source = 0;
  uint64_t group_id = 0;
  int32_t index = 0;
};

class Fleet {
 public:
  Fleet(size_t size, Rescheduling mode)
      : options_{.mode = mode, .migrate_out_below = 3, .migrate_in_above = 6}, workers_(size) {}

  void Add(size_t worker, uint64_t id, int32_t num_prompt, int32_t num_new) {
    GroupRequest group;
    group.group_id = id;
    group.model = 1;
    CounterRandom random(id);
    for (int32_t i = 0; i < num_prompt; ++i) {
      group.prompt_token_ids.push_back(static_cast<int32_t>(random.Below(kVocab)));
    }
    group.stream_keys = {id};
    group.max_new_tokens = num_new;
    REQUIRE_OK(workers_[worker].engine->AddGroup(std::move(group)));
    ++num_open_;
  }

  void Step() {
    if (num_steps_++ % kStepsPerPlan == 0) Reschedule();
    for (size_t w = 0; w < workers_.size(); ++w) {
      if (!workers_[w].engine->has_work()) continue;
      const StepResult result = workers_[w].engine->Step();
      for (const StreamedTokens& tokens : result.streamed) DeliverHome(w, tokens, result);
      for (const CompletedSample& sample : result.completed) {
        REQUIRE_OK(sample.status);
        if (!away_.contains({w, sample.group_id})) Ended(sample);
      }
      for (const CompletedSample& sample : result.completed) away_.erase({w, sample.group_id});
    }
  }

  Engine& engine(size_t worker) { return *workers_[worker].engine; }
  bool has_ended(uint64_t id) const { return ended_.contains(id); }
  size_t num_open() const { return num_open_; }
  int num_moved() const { return num_moved_; }
  double num_preemptions() {
    double sum = 0;
    for (Worker& worker : workers_) {
      sum += worker.metrics.value("rollcall_rollout_preemptions_total");
    }
    return sum;
  }
  // Of freeness over the engines; an idle one has as much as one sequence could get.
  double Spread() const {
    double sum = 0;
    double squares = 0;
    for (const Worker& worker : workers_) {
      const double freeness = std::clamp<double>(worker.engine->FreenessNow(), -kBlocks, kBlocks);
      sum += freeness;
      squares += freeness * freeness;
    }
    const auto count = static_cast<double>(workers_.size());
    return std::sqrt(std::max(0.0, squares / count - sum / count * sum / count));
  }

 private:
  void Ended(const CompletedSample& sample) {
    REQUIRE(ended_.emplace(sample.group_id, sample.token_ids.size()).second);
    --num_open_;
  }

  // What a guest sampled belongs to the engine that it came from.
  void DeliverHome(size_t worker, const StreamedTokens& tokens, const StepResult& result) {
    const auto it = away_.find({worker, tokens.group_id});
    if (it == away_.end()) return;
    std::optional<CompletionEnd> end;
    for (const CompletedSample& sample : result.completed) {
      if (sample.group_id == tokens.group_id) end = sample.end;
    }
    const Away& from = it->second;
    StepResult at_home;
    REQUIRE_OK(engine(from.source).Deliver(from.group_id, from.index, tokens, end, &at_home));
    for (const CompletedSample& sample : at_home.completed) Ended(sample);
  }

  void Reschedule() {
    std::vector<EngineState> states;
    for (size_t w = 0; w < workers_.size(); ++w) {
      const Engine& e = *workers_[w].engine;
      states.push_back({.worker_id = std::to_string(w),
                        .address = std::to_string(w),
                        .job_id = "job",
                        .policy_version = 1,
                        .freeness = e.FreenessNow(),
                        .num_running = static_cast<int32_t>(e.num_running()),
                        .num_used_blocks = e.cache().num_used(),
                        .num_blocks = e.cache().num_blocks()});
    }
    for (const PlannedMigration& order : PlanMigrations(options_, states)) {
      std::vector<MovableSequence> movable =
          engine(std::stoul(order.source_worker_id)).ListMovable();
      OrderForMigration(&movable);
      for (int32_t i = 0; i < order.max_sequences && i < static_cast<int32_t>(movable.size());
           ++i) {
        Move(std::stoul(order.source_worker_id), std::stoul(order.destination), movable[i]);
      }
    }
  }

  void Move(size_t source, size_t destination, const MovableSequence& sequence) {
    Engine& from = engine(source);
    Engine& to = engine(destination);
    auto reservation = to.Reserve(sequence.num_tokens);
    if (!reservation.ok()) return;
    const auto settled = from.Settled(sequence.group_id, sequence.index);
    REQUIRE_OK(settled.status());
    auto state = from.Detach(sequence.group_id, sequence.index, settled->epoch);
    REQUIRE_OK(state.status());
    const int32_t held = (state->num_computed + kBlockSize - 1) / kBlockSize;
    std::vector<std::byte> bytes;
    REQUIRE_OK(from.ReadBlocks(sequence.group_id, sequence.index, 0, held, &bytes));
    REQUIRE_OK(to.GrowReservation(*reservation, state->num_computed));
    REQUIRE_OK(to.WriteReserved(*reservation, 0, bytes));
    // It may have been a guest at the source already: its tokens travel through both.
    const uint64_t id = next_guest_++;
    state->request.group_id = id;
    state->request.is_streaming = true;
    REQUIRE_OK(to.Adopt(*reservation, *std::move(state)));
    REQUIRE_OK(from.Release(sequence.group_id, sequence.index));
    away_[{destination, id}] = {source, sequence.group_id, sequence.index};
    ++num_moved_;
  }

  const ReschedulerOptions options_;
  std::vector<Worker> workers_;
  std::map<std::pair<size_t, uint64_t>, Away> away_;  // by where it runs and its number there
  std::map<uint64_t, size_t> ended_;
  size_t num_open_ = 0;
  int num_steps_ = 0;
  int num_moved_ = 0;
  uint64_t next_guest_ = uint64_t{1} << 40;
};

// Every engine has room in pieces, and a request comes that fits into none of them.
int StepsUntilStart(Rescheduling mode) {
  Fleet fleet(4, mode);
  constexpr int32_t kPrompt = 4 * kBlockSize;
  constexpr int32_t kNew = 12 * kBlockSize;
  uint64_t id = 1;
  for (size_t worker = 0; worker < 4; ++worker) {
    for (int i = 0; i < 4; ++i) fleet.Add(worker, id++, kPrompt, kNew);
  }
  fleet.Step();
  constexpr uint64_t kLarge = 100;
  fleet.Add(0, kLarge, 44 * kBlockSize, 4);
  int steps = 0;
  while (!fleet.has_ended(kLarge)) {
    fleet.Step();
    REQUIRE(++steps < 1000);
  }
  while (fleet.num_open() > 0) fleet.Step();
  return steps;
}

TEST_CASE("Rescheduling: memory that is free in pieces comes together for what waits", "[sim]") {
  const int without = StepsUntilStart(Rescheduling::kOff);
  const int with = StepsUntilStart(Rescheduling::kDefragment);
  CAPTURE(without, with);
  // Without, one of the running ones has to end first: about fifty steps.
  CHECK(without > 40);
  CHECK(3 * with < without);
}

struct Outcome {
  double spread = 0;  // mean over the steps
  double preemptions = 0;
  int moved = 0;
};

// Two of three requests go to the first engine.
Outcome RunSkewed(Rescheduling mode, uint64_t seed) {
  Fleet fleet(4, mode);
  CounterRandom random(seed);
  Outcome outcome;
  uint64_t id = 1;
  int num_steps = 0;
  for (; num_steps < 2000 || fleet.num_open() > 0; ++num_steps) {
    if (num_steps < 2000 && random.Below(4) == 0) {
      const size_t worker = random.Below(3) < 2 ? 0 : 1 + random.Below(3);
      fleet.Add(worker, id++, static_cast<int32_t>(4 + random.Below(40)),
                static_cast<int32_t>(20 + random.Below(60)));
    }
    fleet.Step();
    if (num_steps < 2000) outcome.spread += fleet.Spread() / 2000;
    REQUIRE(num_steps < 20000);
  }
  outcome.preemptions = fleet.num_preemptions();
  outcome.moved = fleet.num_moved();
  return outcome;
}

TEST_CASE("Rescheduling: skewed arrivals even out, and fewer sequences are preempted", "[sim]") {
  Outcome without;
  Outcome with;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const Outcome off = RunSkewed(Rescheduling::kOff, seed);
    const Outcome balance = RunSkewed(Rescheduling::kBalance, seed);
    CHECK(off.moved == 0);
    CHECK(balance.moved > 0);
    without.spread += off.spread;
    without.preemptions += off.preemptions;
    with.spread += balance.spread;
    with.preemptions += balance.preemptions;
  }
  CAPTURE(without.spread, with.spread, without.preemptions, with.preemptions);
  CHECK(2 * with.spread < without.spread);
  CHECK(2 * with.preemptions < without.preemptions);
}

}  // namespace
}  // namespace rollcall
