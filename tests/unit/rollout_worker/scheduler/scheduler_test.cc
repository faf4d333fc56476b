#include "rollout_worker/scheduler/scheduler.h"

#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::unique_ptr<Sequence> MakeSequence(uint64_t arrival, int32_t num_prompt, int32_t first = 0) {
  auto sequence = std::make_unique<Sequence>();
  sequence->arrival = arrival;
  sequence->model = 1;
  sequence->num_prompt = num_prompt;
  sequence->tokens.resize(static_cast<size_t>(num_prompt));
  std::iota(sequence->tokens.begin(), sequence->tokens.end(), first);
  return sequence;
}

// Computes the planned step: every sequence that reaches its last token gets one more.
void Compute(Scheduler& scheduler, const StepPlan& plan, int32_t token = 7) {
  for (const PlannedChunk& chunk : plan.chunks) {
    const bool samples = chunk.wants_logits();
    scheduler.Advance(chunk);
    if (samples) chunk.sequence->tokens.push_back(token);
  }
}

}  // namespace

TEST_CASE("Scheduler: a long prompt is cut by the token budget", "[unit][scheduler]") {
  KvCache cache(64, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 10}, cache);
  const auto sequence = MakeSequence(0, 25);
  scheduler.Add(sequence.get());
  std::vector<int32_t> chunks;
  for (int step = 0; step < 4; ++step) {
    const StepPlan& plan = scheduler.Plan();
    REQUIRE(plan.chunks.size() == 1);
    chunks.push_back(plan.chunks[0].num_new);
    Compute(scheduler, plan);
  }
  CHECK(chunks == std::vector<int32_t>{10, 10, 5, 1});
}

TEST_CASE("Scheduler: running sequences come before new prompts", "[unit][scheduler]") {
  KvCache cache(64, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 10}, cache);
  const auto first = MakeSequence(0, 6);
  const auto second = MakeSequence(1, 30, 100);
  scheduler.Add(first.get());
  Compute(scheduler, scheduler.Plan());
  scheduler.Add(second.get());
  const StepPlan& plan = scheduler.Plan();
  REQUIRE(plan.chunks.size() == 2);
  CHECK(plan.chunks[0].sequence == first.get());
  CHECK(plan.chunks[0].num_new == 1);
  CHECK(plan.chunks[1].num_new == 9);
}

TEST_CASE("Scheduler: nobody overtakes the head of the line", "[unit][scheduler]") {
  KvCache cache(10, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 64}, cache);
  const auto first = MakeSequence(0, 20);
  const auto big = MakeSequence(1, 30, 100);
  const auto small = MakeSequence(2, 2, 200);
  for (Sequence* s : {first.get(), big.get(), small.get()}) scheduler.Add(s);
  const StepPlan& plan = scheduler.Plan();
  CHECK(plan.chunks.size() == 1);
  CHECK(scheduler.num_waiting() == 2);
}

TEST_CASE("Scheduler: the newest sequence gives its blocks back when memory is short",
          "[unit][scheduler]") {
  KvCache cache(4, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 64, .watermark = 0}, cache);
  const auto first = MakeSequence(0, 8);
  const auto second = MakeSequence(1, 8, 100);
  scheduler.Add(first.get());
  scheduler.Add(second.get());
  Compute(scheduler, scheduler.Plan());
  CHECK(scheduler.num_running() == 2);
  const StepPlan& plan = scheduler.Plan();  // both want a third block, none is free
  CHECK(plan.num_preempted() == 1);
  REQUIRE(plan.chunks.size() == 1);
  CHECK(plan.chunks[0].sequence == first.get());
  CHECK(second->num_computed == 0);
  CHECK(second->blocks.empty());
  Compute(scheduler, plan);
  scheduler.Remove(first.get());
  const StepPlan& next = scheduler.Plan();
  REQUIRE(next.chunks.size() == 1);
  // Its prompt's first block is still cached; the sampled token is known and computed again.
  CHECK(next.num_prefix_hit_tokens + next.chunks[0].num_new == 9);
  CHECK(next.chunks[0].wants_logits());
}

TEST_CASE("Scheduler: room is kept for the siblings of a group", "[unit][scheduler]") {
  KvCache cache(64, 4);
  Scheduler scheduler({.max_sequences = 4, .max_batched_tokens = 64}, cache);
  const auto leader = MakeSequence(0, 6);
  leader->num_forks = 2;
  const auto other = MakeSequence(3, 6, 100);
  other->num_forks = 1;
  scheduler.Add(leader.get());
  scheduler.Add(other.get());
  const StepPlan& plan = scheduler.Plan();
  CHECK(plan.chunks.size() == 1);
  Compute(scheduler, plan);
  leader->num_forks = 0;
  const auto child = MakeSequence(1, 6);
  child->tokens.push_back(3);
  const auto copy = scheduler.Fork(*leader, 6, child.get());
  CHECK(copy.has_value());
  CHECK(child->num_computed == 6);
  CHECK(scheduler.num_running() == 2);
  CHECK(cache.num_used() == 3);
  CHECK(scheduler.Plan().chunks.size() == 3);  // now both members of the other group have room
}

TEST_CASE("Scheduler: a fork without room waits and finds the prompt in the cache",
          "[unit][scheduler]") {
  KvCache cache(64, 4);
  Scheduler scheduler({.max_sequences = 1, .max_batched_tokens = 64}, cache);
  const auto leader = MakeSequence(0, 6);
  scheduler.Add(leader.get());
  Compute(scheduler, scheduler.Plan());
  const auto child = MakeSequence(1, 6);
  child->tokens.push_back(3);
  CHECK_FALSE(scheduler.Fork(*leader, 6, child.get()).has_value());
  CHECK(scheduler.num_waiting() == 1);
  scheduler.Remove(leader.get());
  const StepPlan& plan = scheduler.Plan();
  REQUIRE(plan.chunks.size() == 1);
  CHECK(plan.num_prefix_hit_tokens == 4);
  CHECK(plan.chunks[0].num_new == 3);
}

TEST_CASE("Scheduler: 100k random steps keep every bound and finish everything",
          "[unit][scheduler]") {
  constexpr int32_t kBlocks = 20;
  constexpr int32_t kBlockSize = 4;
  const SchedulerOptions options{.max_sequences = 6, .max_batched_tokens = 17, .watermark = 0.05};
  KvCache cache(kBlocks, kBlockSize);
  Scheduler scheduler(options, cache);
  CounterRandom random(5);
  std::map<uint64_t, std::unique_ptr<Sequence>> live;
  std::map<uint64_t, int32_t> limits;
  uint64_t arrivals = 0;
  int64_t finished = 0;
  int64_t preempted = 0;
  int64_t hit_tokens = 0;
  const auto remove = [&](Sequence* sequence) {
    scheduler.Remove(sequence);
    limits.erase(sequence->arrival);
    live.erase(sequence->arrival);
  };
  for (int step = 0; step < 100'000; ++step) {
    if (live.size() < 12 && random.Below(3) != 0) {
      const uint64_t arrival = arrivals++;
      const auto num_prompt = static_cast<int32_t>(1 + random.Below(30));
      auto sequence = MakeSequence(arrival, num_prompt, static_cast<int32_t>(random.Below(3)));
      sequence->model = static_cast<ModelId>(1 + arrival / 1000);
      limits[arrival] = num_prompt + static_cast<int32_t>(1 + random.Below(40));
      scheduler.Add(sequence.get());
      live.emplace(arrival, std::move(sequence));
    }
    if (!live.empty() && random.Below(50) == 0) {
      remove(
          std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())))->second.get());
    }
    if (live.empty()) continue;
    const StepPlan plan = scheduler.Plan();
    preempted += plan.num_preempted();
    hit_tokens += plan.num_prefix_hit_tokens;
    REQUIRE_FALSE(plan.chunks.empty());  // there is always progress
    REQUIRE(plan.num_tokens <= options.max_batched_tokens);
    REQUIRE(scheduler.num_running() <= static_cast<size_t>(options.max_sequences));
    // The oldest sequence is always among those that compute.
    REQUIRE(plan.chunks.front().sequence == live.begin()->second.get());
    std::set<const Sequence*> seen;
    for (const PlannedChunk& chunk : plan.chunks) {
      REQUIRE(seen.insert(chunk.sequence).second);
      REQUIRE(chunk.num_new > 0);
      REQUIRE(chunk.sequence->num_computed + chunk.num_new <= chunk.sequence->num_known());
      REQUIRE(chunk.sequence->blocks.size() * kBlockSize >=
              chunk.sequence->num_computed + chunk.num_new);
    }
    Compute(scheduler, plan, static_cast<int32_t>(random.Below(3)));
    for (const PlannedChunk& chunk : plan.chunks) {
      if (chunk.sequence->num_known() >= limits.at(chunk.sequence->arrival)) {
        remove(chunk.sequence);
        ++finished;
      }
    }
  }
  CHECK(finished > 5000);
  CHECK(preempted > 1000);
  CHECK(hit_tokens > 1000);
  while (!live.empty()) remove(live.begin()->second.get());
  CHECK(cache.num_free() == kBlocks);
  CHECK_FALSE(scheduler.has_work());
}

}  // namespace rollcall
