#include "services/coordinator/experience/batch.h"

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/coordinator/experience/staleness.h"
#include "services/coordinator/journal/sqlite_store.h"
#include "tests/support/catch.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::Failed;
using testing::MakeTrajectory;
using testing::Reward;
using testing::SharedTrajectory;
using testing::TrainSample;

constexpr int64_t kIteration = 4;
const std::vector<int64_t> kPrompts = {7, 3, 5};

SampleId Id(int64_t prompt, int32_t index) { return TrainSample(kIteration, prompt, index); }

void Score(SampleBoard& board, const SampleId& id, double reward, int64_t version = kIteration) {
  board.MarkGenerated(id, SharedTrajectory(id, version));
  board.Settle(id, Reward(id, reward));
}

// (prompt, index) of every sample, in order.
std::vector<std::pair<int64_t, int32_t>> Members(const FormedBatch& batch) {
  std::vector<std::pair<int64_t, int32_t>> members;
  for (const auto& group : batch.groups) {
    for (const v1::Experience& experience : group->experiences()) {
      const v1::SampleKey& key = experience.trajectory().key();
      CHECK(key.prompt_id() == group->prompt_id());
      members.emplace_back(key.prompt_id(), key.sample_index());
    }
  }
  return members;
}

TEST_CASE("FormBatch: scored samples in prompt order, failed ones left out",
          "[unit][coordinator]") {
  SampleBoard board(1, v1::SAMPLE_PURPOSE_TRAIN, kIteration, kPrompts, 2);
  // Whatever is scored first.
  Score(board, Id(5, 1), 0.0, 3);
  Score(board, Id(7, 0), 1.0);
  board.Settle(Id(7, 1), Failed(Id(7, 1), "timeout"));
  board.Settle(Id(3, 1), Failed(Id(3, 1), "timeout"));
  Score(board, Id(5, 0), 0.5, 2);
  board.Settle(Id(3, 0), Failed(Id(3, 0), "too_long"));
  REQUIRE(board.complete());

  const FormedBatch batch = FormBatch(board);
  CHECK(batch.step == kIteration + 1);
  CHECK(Members(batch) == std::vector<std::pair<int64_t, int32_t>>{{7, 0}, {5, 0}, {5, 1}});
  REQUIRE(batch.groups.size() == 2);  // a prompt without a single score has no group
  CHECK(batch.groups[0]->iteration() == kIteration);
  CHECK(batch.groups[1]->experiences(0).reward() == 0.5);
  CHECK(batch.groups[1]->experiences(0).preference_rank() == -1);
  CHECK(batch.num_samples == 3);
  CHECK(batch.max_staleness == 2);
  CHECK(batch.metrics.at("samples") == 3);
  CHECK(batch.metrics.at("groups") == 2);
  CHECK(batch.metrics.at("failed") == 3);
  CHECK(batch.metrics.at("reward_mean") == 0.5);
  CHECK(batch.metrics.at("reward_std") == Approx(std::sqrt(1.0 / 6)));
  CHECK(batch.metrics.at("completion_length_mean") == 3);
  CHECK(batch.metrics.at("truncated_share") == 0);
  CHECK(batch.metrics.at("staleness_mean") == 1);
  CHECK(batch.metrics.at("staleness_max") == 2);
}

TEST_CASE("FormBatch: data set rows have no reward and no staleness", "[unit][coordinator]") {
  auto group = std::make_shared<v1::PromptGroup>();
  group->set_prompt_id(2);
  for (int i = 0; i < 2; ++i) {
    v1::Experience& experience = *group->add_experiences();
    experience.set_preference_rank(i);
    *experience.mutable_trajectory() = MakeTrajectory(Id(2, i), 0, 4);
    experience.mutable_trajectory()->mutable_segments(0)->set_kind(v1::SEGMENT_KIND_DATASET);
  }
  const FormedBatch batch = FormBatch(9, {group});
  CHECK(batch.step == 9);
  CHECK(batch.num_samples == 2);
  CHECK(batch.max_staleness == 0);
  CHECK(batch.metrics.at("completion_length_mean") == 4);
  CHECK_FALSE(batch.metrics.contains("reward_mean"));
  CHECK_FALSE(batch.metrics.contains("staleness_max"));
}

TEST_CASE("Staleness: counted from the oldest sampled token", "[unit][coordinator]") {
  v1::Trajectory trajectory = MakeTrajectory(TrainSample(6, 1, 0), 5);
  v1::Segment& newer = *trajectory.add_segments();
  newer.set_kind(v1::SEGMENT_KIND_POLICY);
  newer.set_policy_version(6);
  v1::Segment& said = *trajectory.add_segments();
  said.set_kind(v1::SEGMENT_KIND_OBSERVATION);  // nobody's version
  CHECK(OldestVersion(trajectory) == 5);
  CHECK(Staleness(trajectory) == 1);
  trajectory.mutable_segments(1)->set_policy_version(2);
  CHECK(Staleness(trajectory) == 4);
  trajectory.clear_segments();
  CHECK(OldestVersion(trajectory) == -1);
  CHECK(Staleness(trajectory) == 0);
}

TEST_CASE("Staleness: an iteration that waits for its version keeps the bound",
          "[unit][coordinator]") {
  for (int64_t iteration = 0; iteration < 20; ++iteration) {
    for (int64_t bound = 0; bound < 6; ++bound) {
      const int64_t oldest = OldestAllowedVersion(iteration, bound);
      CHECK(oldest >= 0);
      CHECK(iteration - oldest <= bound);
      // No version earlier than needed.
      if (oldest > 0) CHECK(iteration - (oldest - 1) > bound);
    }
  }
}

TEST_CASE("BatchOfRank: the parts hold every group once, whatever the world",
          "[unit][coordinator]") {
  SampleBoard board(1, v1::SAMPLE_PURPOSE_TRAIN, kIteration, kPrompts, 2);
  for (const int64_t prompt : kPrompts) {
    for (int32_t index = 0; index < 2; ++index) Score(board, Id(prompt, index), 1);
  }
  const FormedBatch batch = FormBatch(board);
  for (int32_t world = 1; world <= 5; ++world) {
    std::multiset<int64_t> prompts;
    uint64_t largest = 0;
    for (int32_t rank = 0; rank < world; ++rank) {
      const v1::Batch part = BatchOfRank(batch, rank, world);
      CHECK(part.step() == batch.step);
      CHECK(part.num_groups() == 3);
      CHECK(part.num_samples() == 6);
      uint64_t bytes = 0;
      for (const v1::PromptGroup& group : part.groups()) {
        prompts.insert(group.prompt_id());
        bytes += group.ByteSizeLong();
      }
      largest = std::max(largest, bytes);
      // What is promised of the wire holds for the message itself.
      CHECK(part.ByteSizeLong() <= LargestPartBytes(batch, world) + 32);
    }
    CHECK(prompts == std::multiset<int64_t>(kPrompts.begin(), kPrompts.end()));
    CHECK(LargestPartBytes(batch, world) >= largest);
  }
}

TEST_CASE("RebuildBatch: the journal gives back the batch that was formed", "[unit][coordinator]") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    CounterRandom random(seed);
    REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(":memory:", SqliteStore::Access::kOwner));
    SampleBoard board(1, v1::SAMPLE_PURPOSE_TRAIN, kIteration, kPrompts, 3);
    std::vector<SampleId> ids;
    for (const int64_t prompt : kPrompts) {
      for (int32_t index = 0; index < 3; ++index) ids.push_back(Id(prompt, index));
    }
    Shuffle(std::span<SampleId>(ids), random);
    std::vector<Record> records;
    for (const SampleId& id : ids) {
      const bool failed = random.Below(4) == 0;
      const bool made = !failed || random.Below(2) == 0;
      if (made) {
        const auto trajectory =
            SharedTrajectory(id, kIteration - static_cast<int64_t>(random.Below(3)));
        board.MarkGenerated(id, trajectory);
        records.push_back(TrajectoryRecord{id, trajectory});
      }
      const auto score = failed ? Failed(id, "x") : Reward(id, random.Uniform());
      board.Settle(id, score);
      records.push_back(ScoreRecord{id, score});
    }
    const FormedBatch formed = FormBatch(board);
    records.push_back(BatchRecord{1, formed.step, formed.num_samples, absl::UnixEpoch()});
    REQUIRE_OK(store->Apply(records));
    REQUIRE_OK_AND_ASSIGN(
        const auto samples,
        store->LoadSamples({.job = 1, .min_iteration = kIteration, .max_iteration = kIteration}));
    const FormedBatch rebuilt = RebuildBatch(formed.step, samples, kPrompts);
    REQUIRE(Members(rebuilt) == Members(formed));
    for (int32_t rank = 0; rank < 2; ++rank) {
      REQUIRE(BatchOfRank(rebuilt, rank, 2).SerializeAsString() ==
              BatchOfRank(formed, rank, 2).SerializeAsString());
    }
    REQUIRE(rebuilt.metrics == formed.metrics);
    REQUIRE(rebuilt.size_bytes == formed.size_bytes);
    // Samples of another step are not in it.
    REQUIRE(RebuildBatch(formed.step + 1, samples, kPrompts).num_samples == 0);
  }
}

}  // namespace
}  // namespace rollcall::coordinator
