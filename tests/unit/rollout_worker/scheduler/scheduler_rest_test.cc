// Sequences that wait for others before they get their next token.
#include <memory>
#include <numeric>
#include <vector>

#include "rollout_worker/scheduler/scheduler.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::unique_ptr<Sequence> MakeSequence(uint64_t arrival, int32_t num_prompt) {
  auto sequence = std::make_unique<Sequence>();
  sequence->arrival = arrival;
  sequence->model = 1;
  sequence->num_prompt = num_prompt;
  sequence->tokens.resize(static_cast<size_t>(num_prompt));
  std::iota(sequence->tokens.begin(), sequence->tokens.end(), 100 * static_cast<int32_t>(arrival));
  return sequence;
}

// Computes the planned step; those that reached their last token rest.
void ComputeAndRest(Scheduler& scheduler, const StepPlan& plan) {
  for (const PlannedChunk& chunk : plan.chunks) {
    const bool is_done = chunk.wants_logits();
    scheduler.Advance(chunk);
    if (is_done) scheduler.Rest(chunk.sequence);
  }
}

}  // namespace

TEST_CASE("Scheduler: what rests keeps its blocks and its place while nobody needs them",
          "[unit][scheduler]") {
  KvCache cache(8, 4);
  Scheduler scheduler({.max_sequences = 2, .max_batched_tokens = 64, .watermark = 0}, cache);
  const auto first = MakeSequence(0, 8);
  const auto second = MakeSequence(1, 8);
  const auto third = MakeSequence(2, 8);
  scheduler.Add(first.get());
  ComputeAndRest(scheduler, scheduler.Plan());
  CHECK(scheduler.is_resting(first.get()));
  CHECK(first->blocks.size() == 2);
  CHECK_FALSE(scheduler.has_work());
  // One place of two is taken.
  scheduler.Add(second.get());
  scheduler.Add(third.get());
  CHECK(scheduler.Plan().chunks.size() == 1);
  first->tokens.push_back(1);
  scheduler.Wake(first.get());
  const StepPlan& plan = scheduler.Plan();
  REQUIRE(plan.chunks.size() == 2);
  CHECK(plan.chunks[0].sequence == first.get());
  CHECK(plan.chunks[0].num_new == 1);
  scheduler.Wake(first.get());  // it does not rest
  CHECK(scheduler.num_running() == 2);
  for (Sequence* sequence : {first.get(), second.get(), third.get()}) scheduler.Remove(sequence);
  CHECK(cache.num_used() == 0);
}

TEST_CASE("Scheduler: what rests makes room for what runs, the last in rank first",
          "[unit][scheduler]") {
  KvCache cache(6, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 64, .watermark = 0}, cache);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (uint64_t i = 0; i < 3; ++i) {
    sequences.push_back(MakeSequence(i, 8));
    scheduler.Add(sequences.back().get());
  }
  const StepPlan& plan = scheduler.Plan();
  REQUIRE(plan.chunks.size() == 3);
  for (const PlannedChunk& chunk : plan.chunks) scheduler.Advance(chunk);
  scheduler.Rest(sequences[0].get());
  scheduler.Rest(sequences[1].get());
  // The third one is last in rank, and yet does not go for those that have nothing to do.
  sequences[2]->tokens.push_back(1);
  const StepPlan& next = scheduler.Plan();
  REQUIRE(next.chunks.size() == 1);
  CHECK(next.chunks[0].sequence == sequences[2].get());
  CHECK(next.num_preempted() == 1);
  CHECK(sequences[0]->num_computed == 8);
  CHECK(sequences[1]->num_computed == 0);
  CHECK(sequences[1]->blocks.empty());
  // It waits from when it wakes.
  CHECK(scheduler.num_waiting() == 0);
  sequences[1]->tokens.push_back(1);
  scheduler.Wake(sequences[1].get());
  CHECK(scheduler.num_waiting() == 1);
  for (const auto& sequence : sequences) scheduler.Remove(sequence.get());
  CHECK(cache.num_used() == 0);
}

TEST_CASE("Scheduler: what waits takes the blocks of what rests when nothing runs",
          "[unit][scheduler]") {
  for (const int32_t max_sequences : {1, 8}) {
    KvCache cache(max_sequences == 1 ? 64 : 3, 4);
    Scheduler scheduler({.max_sequences = max_sequences, .max_batched_tokens = 64}, cache);
    const auto first = MakeSequence(0, 12);
    const auto second = MakeSequence(1, 12);
    scheduler.Add(first.get());
    ComputeAndRest(scheduler, scheduler.Plan());
    scheduler.Add(second.get());
    const StepPlan& plan = scheduler.Plan();
    REQUIRE(plan.chunks.size() == 1);
    CHECK(plan.chunks[0].sequence == second.get());
    CHECK(first->blocks.empty());
    CHECK(scheduler.is_resting(first.get()));
    scheduler.Remove(first.get());
    scheduler.Remove(second.get());
    CHECK(cache.num_used() == 0);
  }
}

TEST_CASE("Scheduler: a smaller priority number takes the blocks of what rests",
          "[unit][scheduler]") {
  KvCache cache(7, 4);
  Scheduler scheduler({.max_sequences = 8, .max_batched_tokens = 64, .watermark = 0}, cache);
  const auto resting = MakeSequence(0, 12);
  const auto running = MakeSequence(1, 12);
  const auto urgent = MakeSequence(2, 12);
  resting->priority = 5;
  running->priority = 5;
  urgent->priority = 1;
  scheduler.Add(resting.get());
  ComputeAndRest(scheduler, scheduler.Plan());
  scheduler.Add(running.get());
  for (const PlannedChunk& chunk : scheduler.Plan().chunks) scheduler.Advance(chunk);
  running->tokens.push_back(1);
  scheduler.Add(urgent.get());
  const StepPlan& plan = scheduler.Plan();
  CHECK(plan.num_preempted() == 1);
  CHECK(resting->blocks.empty());
  CHECK(plan.chunks.size() == 2);
  for (Sequence* sequence : {resting.get(), running.get(), urgent.get()}) {
    scheduler.Remove(sequence);
  }
  CHECK(cache.num_used() == 0);
}

}  // namespace rollcall
