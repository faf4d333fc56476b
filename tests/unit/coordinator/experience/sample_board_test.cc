#include "services/coordinator/experience/sample_board.h"

#include <set>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::Failed;
using testing::Reward;
using testing::SharedTrajectory;
using testing::TrainSample;

constexpr int64_t kIteration = 4;
const std::vector<int64_t> kPrompts = {7, 3, 5};

SampleId Id(int64_t prompt, int32_t index) { return TrainSample(kIteration, prompt, index); }

SampleBoard MakeBoard(int32_t samples_per_prompt = 2) {
  return {1, v1::SAMPLE_PURPOSE_TRAIN, kIteration, kPrompts, samples_per_prompt};
}

TEST_CASE("SampleBoard: begins with everything pending", "[unit][coordinator]") {
  SampleBoard board = MakeBoard();
  CHECK(board.num_samples() == 6);
  CHECK(board.num_pending() == 6);
  CHECK(board.num_pending_prompts() == 3);
  CHECK(board.num_settled() == 0);
  CHECK_FALSE(board.complete());
  CHECK(board.Find(Id(7, 1)) != nullptr);
  CHECK(board.Find(Id(7, 2)) == nullptr);
  CHECK(board.Find(Id(7, -1)) == nullptr);
  CHECK(board.Find(Id(8, 0)) == nullptr);
}

TEST_CASE("SampleBoard: picks prompts in order, and no sample that is out", "[unit][coordinator]") {
  SampleBoard board = MakeBoard();
  auto pick = board.PeekPending(1);
  REQUIRE(pick);
  CHECK(pick->prompt_id == 7);
  CHECK(pick->sample_indices == std::vector<int32_t>{0});
  board.MarkLeased(Id(7, 0), 1);
  pick = board.PeekPending(10);
  CHECK(pick->prompt_id == 7);
  CHECK(pick->sample_indices == std::vector<int32_t>{1});
  board.MarkLeased(Id(7, 1), 2);
  CHECK(board.PeekPending(10)->prompt_id == 3);
  CHECK(board.num_pending() == 4);
  CHECK(board.num_pending_prompts() == 2);
  board.GiveBack(Id(7, 0), /*delayed=*/false);
  CHECK(board.PeekPending(10)->prompt_id == 7);
}

TEST_CASE("SampleBoard: a delayed sample waits until it is let go", "[unit][coordinator]") {
  SampleBoard board = MakeBoard(1);
  board.MarkLeased(Id(7, 0), 1);
  board.GiveBack(Id(7, 0), /*delayed=*/true);
  CHECK(board.num_pending() == 2);
  CHECK(board.PeekPending(1)->prompt_id == 3);
  board.Undelay(Id(7, 0));
  board.Undelay(Id(7, 0));
  CHECK(board.num_pending() == 3);
  CHECK(board.PeekPending(1)->prompt_id == 7);

  // The answer of the worker that was given up may still come while it waits.
  board.MarkLeased(Id(7, 0), 2);
  board.GiveBack(Id(7, 0), /*delayed=*/true);
  board.MarkGenerated(Id(7, 0), SharedTrajectory(Id(7, 0), 4));
  board.Undelay(Id(7, 0));
  CHECK(board.num_pending() == 2);
  CHECK(board.Find(Id(7, 0))->state == v1::SAMPLE_STATE_GENERATED);
}

TEST_CASE("SampleBoard: failed samples settle and are counted", "[unit][coordinator]") {
  SampleBoard board = MakeBoard(1);
  for (const int64_t prompt : {7, 3}) {
    board.MarkLeased(Id(prompt, 0), 1);
    board.MarkGenerated(Id(prompt, 0), SharedTrajectory(Id(prompt, 0), 4));
  }
  board.Settle(Id(7, 0), Reward(Id(7, 0), 1));
  board.Settle(Id(3, 0), Failed(Id(3, 0), "timeout"));
  board.Settle(Id(5, 0), Failed(Id(5, 0), "too_long"));  // it was never made
  CHECK(board.complete());
  CHECK(board.num_failed() == 2);
  CHECK(board.num_pending() == 0);
  board.Reset(Id(3, 0));
  CHECK_FALSE(board.complete());
  CHECK(board.num_failed() == 1);
  CHECK(board.num_pending() == 1);
  CHECK(board.Find(Id(3, 0))->score == nullptr);
  CHECK(board.Find(Id(3, 0))->trajectory == nullptr);
}

TEST_CASE("SampleBoard: the counts follow the states over random schedules",
          "[unit][coordinator]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    CounterRandom random(seed);
    SampleBoard board = MakeBoard(3);
    for (int step = 0; step < 400; ++step) {
      const SampleId id = Id(kPrompts[random.Below(3)], static_cast<int32_t>(random.Below(3)));
      Sample& sample = *board.Find(id);
      switch (random.Below(6)) {
        case 0:
          if (const auto pick = board.PeekPending(1 + static_cast<int64_t>(random.Below(3)))) {
            for (const int32_t index : pick->sample_indices) {
              board.MarkLeased(Id(pick->prompt_id, index), 1 + random.Below(9));
            }
          }
          break;
        case 1:
          if (sample.state == v1::SAMPLE_STATE_LEASED) board.GiveBack(id, random.Below(2) == 0);
          break;
        case 2:
          board.Undelay(id);
          break;
        case 3:
          if (sample.state == v1::SAMPLE_STATE_LEASED || sample.state == v1::SAMPLE_STATE_PENDING) {
            board.MarkGenerated(id, SharedTrajectory(id, kIteration));
          }
          break;
        case 4:
          if (!sample.settled()) {
            board.Settle(id, random.Below(3) == 0 ? Failed(id, "x") : Reward(id, 1));
          }
          break;
        default:
          if (sample.settled() && random.Below(2) == 0) board.Reset(id);
      }
      int64_t pending = 0;
      int64_t settled = 0;
      int64_t failed = 0;
      std::set<int64_t> pending_prompts;
      for (const PromptSlot& slot : board.prompts()) {
        for (const Sample& one : slot.samples) {
          if (one.state == v1::SAMPLE_STATE_PENDING && !one.delayed) {
            ++pending;
            pending_prompts.insert(slot.prompt_id);
          }
          settled += one.settled() ? 1 : 0;
          failed += one.state == v1::SAMPLE_STATE_FAILED ? 1 : 0;
        }
      }
      REQUIRE(board.num_pending() == pending);
      REQUIRE(board.num_pending_prompts() == static_cast<int64_t>(pending_prompts.size()));
      REQUIRE(board.num_settled() == settled);
      REQUIRE(board.num_failed() == failed);
      REQUIRE(board.complete() == (settled == board.num_samples()));
      REQUIRE(board.PeekPending(1).has_value() == (pending > 0));
    }
  }
}

}  // namespace
}  // namespace rollcall::coordinator
