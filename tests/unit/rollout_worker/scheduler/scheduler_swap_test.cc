// Preemption by swap, priorities and fair shares.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/scheduler/scheduler.h"
#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr int32_t kBlockSize = 4;

// Per slot the token and its sequence, so that foreign memory shows.
class SlotStore final : public BlockStore {
 public:
  explicit SlotStore(int32_t num_blocks) : slots(static_cast<size_t>(num_blocks) * kBlockSize) {}
  int64_t block_bytes() const override { return kBlockSize * sizeof(int64_t); }
  void CopyBlock(BlockId from, BlockId to) override {
    std::memcpy(&slots[Index(to)], &slots[Index(from)], static_cast<size_t>(block_bytes()));
  }
  void ReadBlocks(BlockId first, int32_t count, std::byte* out) const override {
    std::memcpy(out, &slots[Index(first)], static_cast<size_t>(count * block_bytes()));
  }
  void WriteBlocks(BlockId first, int32_t count, const std::byte* in) override {
    std::memcpy(&slots[Index(first)], in, static_cast<size_t>(count * block_bytes()));
  }
  static size_t Index(BlockId block) { return static_cast<size_t>(block) * kBlockSize; }
  std::vector<int64_t> slots;
};

struct Rig {
  Rig(const SchedulerOptions& options, int32_t num_blocks, int32_t num_host_blocks, int num_threads)
      : store(num_blocks), cache(num_blocks, kBlockSize) {
    if (num_threads == 0) {
      executor = std::make_unique<InlineExecutor>();
    } else {
      executor = MakeThreadPool(num_threads, 16);
    }
    auto space =
        SwapSpace::Create(num_host_blocks * store.block_bytes(), kBlockSize, store, *executor);
    REQUIRE_OK(space.status());
    swap = *std::move(space);
    scheduler = std::make_unique<Scheduler>(options, cache, swap.get());
  }
  // A token's place holds what its position and all tokens before would give.
  static int64_t Content(const Sequence& sequence, int32_t position) {
    return sequence.tokens[static_cast<size_t>(position)] * 1000LL + position;
  }
  // Computes the plan; every read is checked.
  void Compute(const StepPlan& plan, int32_t token) {
    for (const PlannedChunk& chunk : plan.chunks) {
      Sequence& sequence = *chunk.sequence;
      REQUIRE(sequence.transfer == nullptr);
      const int32_t end = sequence.num_computed + chunk.num_new;
      for (int32_t i = 0; i < end; ++i) {
        int64_t& slot =
            store.slots[SlotStore::Index(
                            sequence.blocks.blocks()[static_cast<size_t>(i / kBlockSize)]) +
                        static_cast<size_t>(i % kBlockSize)];
        if (i >= sequence.num_computed) slot = Content(sequence, i);
        REQUIRE(slot == Content(sequence, i));
      }
      const bool samples = chunk.wants_logits();
      scheduler->Advance(chunk);
      if (samples) sequence.tokens.push_back(token);
    }
  }

  SlotStore store;
  KvCache cache;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<SwapSpace> swap;
  std::unique_ptr<Scheduler> scheduler;
};

std::unique_ptr<Sequence> MakeSequence(uint64_t arrival, int32_t num_prompt, int32_t first) {
  auto sequence = std::make_unique<Sequence>();
  sequence->arrival = arrival;
  sequence->model = 1;
  sequence->num_prompt = num_prompt;
  sequence->max_tokens = num_prompt + 40;
  for (int32_t i = 0; i < num_prompt; ++i) sequence->tokens.push_back(first + i);
  return sequence;
}

}  // namespace

TEST_CASE("Scheduler: a swapped sequence goes on where it was", "[unit][scheduler]") {
  Rig rig({.max_sequences = 8,
           .max_batched_tokens = 64,
           .watermark = 0,
           .preemption = Preemption::kSwap},
          4, 8, 0);
  const auto first = MakeSequence(0, 8, 0);
  const auto second = MakeSequence(1, 8, 100);
  rig.scheduler->Add(first.get());
  rig.scheduler->Add(second.get());
  rig.Compute(rig.scheduler->Plan(), 7);
  const StepPlan plan = rig.scheduler->Plan();
  CHECK(plan.num_swapped_out == 1);
  CHECK(plan.num_recomputed == 0);
  CHECK(second->host.num_tokens == 8);
  rig.Compute(plan, 7);
  rig.scheduler->Remove(first.get());
  const StepPlan next = rig.scheduler->Plan();
  REQUIRE(next.chunks.size() == 1);
  CHECK(next.num_swapped_in == 1);
  CHECK(next.chunks[0].num_new == 1);  // nothing is computed again
  rig.Compute(next, 7);
  rig.scheduler->Remove(second.get());
  CHECK(rig.swap->num_free() == 8);
}

TEST_CASE("Scheduler: auto swaps only what costs less to move than to compute",
          "[unit][scheduler]") {
  for (const bool swap_is_cheap : {true, false}) {
    Rig rig({.max_sequences = 8, .max_batched_tokens = 64, .watermark = 0}, 4, 8, 0);
    rig.scheduler->SetCosts({.recompute_seconds_per_token = swap_is_cheap ? 1e-3 : 1e-9,
                             .swap_seconds_per_byte = 1e-9});
    const auto first = MakeSequence(0, 8, 0);
    const auto second = MakeSequence(1, 8, 100);
    rig.scheduler->Add(first.get());
    rig.scheduler->Add(second.get());
    rig.Compute(rig.scheduler->Plan(), 7);
    CHECK(rig.scheduler->Plan().num_swapped_out == (swap_is_cheap ? 1 : 0));
    rig.scheduler->Remove(first.get());
    rig.scheduler->Remove(second.get());
  }
}

TEST_CASE("Scheduler: a smaller priority number takes the place of a larger one",
          "[unit][scheduler]") {
  Rig rig({.max_sequences = 2, .max_batched_tokens = 64, .preemption = Preemption::kSwap}, 64, 64,
          0);
  const auto a = MakeSequence(0, 8, 0);
  const auto b = MakeSequence(1, 8, 100);
  const auto urgent = MakeSequence(2, 8, 200);
  urgent->priority = -1;
  rig.scheduler->Add(a.get());
  rig.scheduler->Add(b.get());
  rig.Compute(rig.scheduler->Plan(), 7);
  rig.scheduler->Add(urgent.get());
  const StepPlan plan = rig.scheduler->Plan();
  CHECK(plan.num_swapped_out == 1);
  REQUIRE(plan.chunks.size() == 2);
  CHECK(rig.scheduler->running().front() == urgent.get());
  CHECK(b->num_computed == 0);
  rig.Compute(plan, 7);
  // Order of arrival alone preempts nobody, and the urgent one stays.
  CHECK(rig.scheduler->Plan().num_preempted() == 0);
  rig.scheduler->SetPriority(b.get(), -5);
  const StepPlan next = rig.scheduler->Plan();
  CHECK(next.num_swapped_out == 1);
  // Its blocks have not been used for anything else yet, so they need not even be moved.
  CHECK(next.num_prefix_hit_tokens == 8);
  CHECK(next.num_tokens == 2);
  CHECK(a->num_computed == 0);
  for (Sequence* s : {a.get(), b.get(), urgent.get()}) rig.scheduler->Remove(s);
  CHECK(rig.cache.num_used() == 0);
}

TEST_CASE("Scheduler: admission by expectation leaves room for what running ones will need",
          "[unit][scheduler]") {
  for (const Admission admission : {Admission::kKnown, Admission::kExpected}) {
    Rig rig({.max_sequences = 8, .max_batched_tokens = 64, .admission = admission}, 12, 8, 0);
    const auto a = MakeSequence(0, 8, 0);
    const auto b = MakeSequence(1, 8, 100);
    rig.scheduler->Add(a.get());
    rig.scheduler->Add(b.get());
    rig.Compute(rig.scheduler->Plan(), 7);
    CHECK(rig.scheduler->num_running() == (admission == Admission::kKnown ? 2 : 1));
    rig.scheduler->Remove(a.get());
    rig.scheduler->Remove(b.get());
  }
}

TEST_CASE("Scheduler: two tenants of one weight get the same tokens", "[unit][scheduler]") {
  constexpr double kThreshold = 60;
  constexpr int32_t kInterval = 5;
  constexpr int32_t kBudget = 16;
  Rig rig(
      {.max_sequences = 4,
       .max_batched_tokens = kBudget,
       .preemption = Preemption::kSwap,
       .fair_share = {.is_enabled = true, .threshold = kThreshold, .interval_steps = kInterval}},
      64, 256, 0);
  const AccountId greedy = rig.scheduler->fair_share().Account("greedy");
  const AccountId modest = rig.scheduler->fair_share().Account("modest");
  std::map<uint64_t, std::unique_ptr<Sequence>> live;
  uint64_t arrival = 0;
  const auto add = [&](AccountId account) {
    auto sequence = MakeSequence(arrival, 4, static_cast<int32_t>(arrival % 900));
    sequence->account = account;
    rig.scheduler->Add(sequence.get());
    live.emplace(arrival++, std::move(sequence));
  };
  // The greedy one came first, with many; the modest one always has two waiting.
  for (int i = 0; i < 24; ++i) add(greedy);
  for (int i = 0; i < 2; ++i) add(modest);
  std::map<AccountId, int64_t> served;
  for (int step = 0; step < 3000; ++step) {
    const StepPlan plan = rig.scheduler->Plan();
    REQUIRE_FALSE(plan.chunks.empty());
    rig.Compute(plan, 7);
    for (const PlannedChunk& chunk : plan.chunks) {
      Sequence* sequence = chunk.sequence;
      if (sequence->num_known() < sequence->max_tokens) continue;
      const AccountId account = sequence->account;
      rig.scheduler->Remove(sequence);
      live.erase(sequence->arrival);
      add(account);
    }
    const FairShare& shares = rig.scheduler->fair_share();
    // The bound: threshold, plus what can be computed between two evaluations.
    const double gap = std::abs(shares.counter(greedy) - shares.counter(modest));
    REQUIRE(gap <= kThreshold + 2.0 * kBudget * (kInterval + 1));
  }
  CHECK(rig.swap->stats().num_out > 0);
  while (!live.empty()) {
    rig.scheduler->Remove(live.begin()->second.get());
    live.erase(live.begin());
  }
  CHECK(rig.cache.num_used() == 0);
  CHECK(rig.swap->num_free() == rig.swap->num_blocks());
}

TEST_CASE("Scheduler: 120k random steps with swaps, priorities and aborts lose nothing",
          "[unit][scheduler]") {
  constexpr int32_t kBlocks = 20;
  constexpr int32_t kHostBlocks = 30;
  for (const Preemption preemption : {Preemption::kSwap, Preemption::kAuto}) {
    for (const int num_threads : {0, 2}) {
      const SchedulerOptions options{
          .max_sequences = 6,
          .max_batched_tokens = 17,
          .max_prefill_chunk = preemption == Preemption::kAuto ? 5 : 0,
          .watermark = 0.05,
          .preemption = preemption,
          .fair_share = {.is_enabled = true, .threshold = 200, .interval_steps = 7}};
      Rig rig(options, kBlocks, kHostBlocks, num_threads);
      // Some moves cost more than computing, some less.
      rig.scheduler->SetCosts({.recompute_seconds_per_token = 1e-6, .swap_seconds_per_byte = 6e-8});
      CounterRandom random(50 + static_cast<uint64_t>(num_threads));
      std::map<uint64_t, std::unique_ptr<Sequence>> live;
      std::map<uint64_t, int> added_at;
      uint64_t arrivals = 0;
      int64_t finished = 0;
      int64_t swapped_in = 0;
      int64_t recomputed = 0;
      int longest_wait = 0;
      const auto remove = [&](Sequence* sequence) {
        const uint64_t arrival = sequence->arrival;
        rig.scheduler->Remove(sequence);
        added_at.erase(arrival);
        live.erase(arrival);
      };
      for (int step = 0; step < 30'000; ++step) {
        if (live.size() < 12 && random.Below(3) != 0) {
          const auto num_prompt = static_cast<int32_t>(1 + random.Below(30));
          auto sequence = MakeSequence(arrivals, num_prompt, static_cast<int32_t>(random.Below(3)));
          sequence->max_tokens = num_prompt + static_cast<int32_t>(1 + random.Below(40));
          sequence->account = rig.scheduler->fair_share().Account(std::to_string(random.Below(3)));
          sequence->priority = static_cast<int32_t>(random.Below(2));
          rig.scheduler->Add(sequence.get());
          added_at[arrivals] = step;
          live.emplace(arrivals++, std::move(sequence));
        }
        const auto any = [&] {
          return std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())))
              ->second.get();
        };
        if (!live.empty() && random.Below(50) == 0) remove(any());
        if (!live.empty() && random.Below(60) == 0) rig.scheduler->Restart(any());
        if (step % 25 == 0) {
          for (auto& [arrival, sequence] : live) {
            rig.scheduler->SetPriority(sequence.get(), static_cast<int32_t>(random.Below(2)));
          }
        }
        if (live.empty()) continue;
        const StepPlan plan = rig.scheduler->Plan();
        swapped_in += plan.num_swapped_in;
        recomputed += plan.num_recomputed;
        REQUIRE_FALSE(plan.chunks.empty());  // there is always progress
        REQUIRE(plan.num_tokens <= options.max_batched_tokens);
        REQUIRE(rig.scheduler->num_running() <= static_cast<size_t>(options.max_sequences));
        std::set<const Sequence*> seen;
        for (const PlannedChunk& chunk : plan.chunks) {
          REQUIRE(seen.insert(chunk.sequence).second);
          REQUIRE(chunk.num_new > 0);
        }
        rig.Compute(plan, static_cast<int32_t>(random.Below(3)));
        for (const PlannedChunk& chunk : plan.chunks) {
          Sequence* sequence = chunk.sequence;
          if (sequence->num_known() < sequence->max_tokens) continue;
          longest_wait = std::max(longest_wait, step - added_at.at(sequence->arrival));
          remove(sequence);
          ++finished;
        }
        // Blocks in use are those of the tables, no more and no fewer.
        std::set<BlockId> held;
        int32_t host_held = 0;
        for (const auto& [arrival, sequence] : live) {
          held.insert(sequence->blocks.blocks().begin(), sequence->blocks.blocks().end());
          host_held += sequence->host.blocks.size();
        }
        REQUIRE(rig.cache.num_used() == static_cast<int32_t>(held.size()));
        REQUIRE(rig.swap->num_blocks() - rig.swap->num_free() == host_held);
      }
      CHECK(finished > 1000);
      CHECK(swapped_in > 200);
      if (preemption == Preemption::kAuto) CHECK(recomputed > 50);
      // Nobody starves: 12 sequences of at most 70 tokens cannot keep one waiting for long.
      CHECK(longest_wait < 2000);
      while (!live.empty()) remove(live.begin()->second.get());
      CHECK(rig.cache.num_used() == 0);
      CHECK(rig.swap->num_free() == kHostBlocks);
    }
  }
}

}  // namespace rollcall
