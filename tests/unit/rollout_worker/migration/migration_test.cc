// Live migration between two engines with a small real model.
#include <map>
#include <memory>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/common/rpc/client.h"
#include "tests/unit/rollout_worker/migration/migration_rig.h"

namespace rollcall {
namespace {

using testing::kMigrationJob;
using testing::MakeRandomModel;
using testing::MigrationRig;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 1024;
  config.tie_word_embeddings = true;
  return config;
}

EngineOptions SmallOptions() {
  EngineOptions options;
  options.kv_cache_bytes = 4 << 20;
  options.swap_bytes = 4 << 20;
  return options;
}

GroupRequest MakeGroup(uint64_t id, int32_t max_new_tokens) {
  CounterRandom random(id + 7);
  GroupRequest group;
  group.group_id = id;
  const size_t num_prompt = 1 + random.Below(60);
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(1 + random.Below(60)));
  }
  group.stream_keys = {id, id + 1000};
  group.max_new_tokens = max_new_tokens;
  group.is_streaming = true;
  return group;
}

constexpr int kGroups = 6;
constexpr int32_t kLength = 900;

std::map<MigrationRig::Key, CompletedSample> Expected(
    const std::shared_ptr<const RunnableModel>& model) {
  MigrationRig alone(SmallConfig(), SmallOptions(), model);
  for (uint64_t id = 1; id <= kGroups; ++id) alone.AddGroup(MakeGroup(id, kLength));
  REQUIRE(alone.WaitForSamples(2 * kGroups));
  return alone.samples();
}

void CheckSame(MigrationRig& rig, const std::map<MigrationRig::Key, CompletedSample>& expected) {
  const auto samples = rig.samples();
  REQUIRE(samples.size() == expected.size());
  const auto streamed = rig.streamed();
  for (const auto& [key, sample] : samples) {
    CHECK(sample.token_ids == expected.at(key).token_ids);
    CHECK(sample.behavior_logprobs == expected.at(key).behavior_logprobs);
    CHECK(sample.end == expected.at(key).end);
    CHECK(streamed.at(key) == sample.token_ids);
  }
}

}  // namespace

TEST_CASE("Migration: tokens and log-probabilities are those of a sequence that stayed",
          "[rpc][migration]") {
  const auto model = MakeRandomModel(SmallConfig());
  const auto expected = Expected(model);
  MigrationRig source(SmallConfig(), SmallOptions(), model);
  MigrationRig destination(SmallConfig(), SmallOptions(), model);
  for (uint64_t id = 1; id <= kGroups; ++id) source.AddGroup(MakeGroup(id, kLength));
  REQUIRE(source.WaitForTokens(kGroups, 20));
  const auto started = source.source().MigrateOut(kMigrationJob, destination.address(), 5);
  REQUIRE_OK(started.status());
  CHECK(*started == 5);
  REQUIRE(source.WaitForTokens(2, 120));
  REQUIRE_OK(source.source().MigrateOut(kMigrationJob, destination.address(), 3).status());
  REQUIRE(source.WaitForSamples(2 * kGroups));
  CheckSame(source, expected);
  CHECK(source.source().num_moved() >= 5);
  CHECK(source.source().num_reclaimed() == 0);
  CHECK(source.NumUsedBlocks() == 0);
  CHECK(destination.NumUsedBlocks() == 0);
}

TEST_CASE("Migration: a destination that dies loses nothing", "[rpc][migration]") {
  const auto model = MakeRandomModel(SmallConfig());
  const auto expected = Expected(model);
  int64_t num_reclaimed = 0;
  for (const size_t dies_at : {21, 60, 150}) {
    MigrationRig source(SmallConfig(), SmallOptions(), model);
    auto destination = std::make_unique<MigrationRig>(SmallConfig(), SmallOptions(), model);
    for (uint64_t id = 1; id <= kGroups; ++id) source.AddGroup(MakeGroup(id, kLength));
    REQUIRE(source.WaitForTokens(1, 20));
    REQUIRE_OK(source.source().MigrateOut(kMigrationJob, destination->address(), 12).status());
    const absl::Time until = absl::Now() + absl::Seconds(20);
    while (source.source().num_moved() == 0 && absl::Now() < until) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    source.WaitForTokens(1, dies_at);
    destination.reset();
    REQUIRE(source.WaitForSamples(2 * kGroups));
    CheckSame(source, expected);
    CHECK(source.NumUsedBlocks() == 0);
    num_reclaimed += source.source().num_reclaimed();
  }
  CHECK(num_reclaimed > 0);
}

TEST_CASE("Migration: a source that dies leaves nothing behind", "[rpc][migration]") {
  const auto model = MakeRandomModel(SmallConfig());
  MigrationRig destination(SmallConfig(), SmallOptions(), model);
  {
    MigrationRig source(SmallConfig(), SmallOptions(), model);
    for (uint64_t id = 1; id <= kGroups; ++id) source.AddGroup(MakeGroup(id, kLength));
    REQUIRE(source.WaitForTokens(1, 20));
    REQUIRE_OK(source.source().MigrateOut(kMigrationJob, destination.address(), 12).status());
    source.WaitForTokens(1, 60);
  }
  const absl::Time until = absl::Now() + absl::Seconds(20);
  while (destination.NumUsedBlocks() > 0 && absl::Now() < until)
    absl::SleepFor(absl::Milliseconds(20));
  CHECK(destination.NumUsedBlocks() == 0);
}

TEST_CASE("Migration: a destination without room refuses and the sequence stays",
          "[rpc][migration]") {
  const auto model = MakeRandomModel(SmallConfig());
  const auto expected = Expected(model);
  EngineOptions tiny = SmallOptions();
  tiny.kv_cache_bytes = 4 << 10;  // one block
  MigrationRig source(SmallConfig(), SmallOptions(), model);
  MigrationRig destination(SmallConfig(), tiny, model);
  for (uint64_t id = 1; id <= kGroups; ++id) source.AddGroup(MakeGroup(id, kLength));
  REQUIRE(source.WaitForTokens(1, 20));
  REQUIRE_OK(source.source().MigrateOut(kMigrationJob, destination.address(), 12).status());
  REQUIRE(source.WaitForSamples(2 * kGroups));
  CheckSame(source, expected);
}

TEST_CASE("Migration: nonsense on the wire is refused and harms nobody", "[rpc][migration]") {
  const auto model = MakeRandomModel(SmallConfig());
  MigrationRig rig(SmallConfig(), SmallOptions(), model);
  const auto channel = MakeChannel(rig.address());
  REQUIRE_OK(channel.status());
  const auto stub = v1::MigrationService::NewStub(*channel);
  const auto refused = [&](const std::vector<v1::MigrateRequest>& requests) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    const auto stream = stub->Receive(&context);
    v1::MigrateResponse response;
    for (const auto& request : requests) {
      if (!stream->Write(request)) break;
      if (!stream->Read(&response)) break;
    }
    stream->WritesDone();
    return stream->Finish().error_code();
  };
  v1::MigrateRequest offer;
  offer.mutable_offer()->set_job_id(kMigrationJob);
  offer.mutable_offer()->set_policy_version(3);
  offer.mutable_offer()->set_block_size(16);
  offer.mutable_offer()->set_block_bytes(2 * 2 * 2 * 8 * 16 * 4);
  offer.mutable_offer()->set_num_tokens(20);
  v1::MigrateRequest other_layout = offer;
  other_layout.mutable_offer()->set_block_size(32);
  v1::MigrateRequest other_job = offer;
  other_job.mutable_offer()->set_job_id("nobody's");
  v1::MigrateRequest blocks;
  blocks.mutable_blocks()->set_first(7);
  blocks.mutable_blocks()->set_data("abc");
  v1::MigrateRequest commit;
  commit.mutable_commit()->set_num_computed(3);
  CHECK(refused({v1::MigrateRequest()}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({blocks}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({commit}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({other_layout}) == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(refused({other_job}) == grpc::StatusCode::NOT_FOUND);
  CHECK(refused({offer, offer}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({offer, blocks}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({offer, commit}) == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused({offer}) == grpc::StatusCode::CANCELLED);  // hung up
  const absl::Time until = absl::Now() + absl::Seconds(20);
  while (rig.NumUsedBlocks() > 0 && absl::Now() < until) absl::SleepFor(absl::Milliseconds(20));
  CHECK(rig.NumUsedBlocks() == 0);
}

TEST_CASE("Migration: a source that falls silent is given up", "[rpc][migration]") {
  MigrationRig rig(SmallConfig(), SmallOptions(), MakeRandomModel(SmallConfig()), {},
                   {.message_timeout = absl::Milliseconds(300)});
  const auto channel = MakeChannel(rig.address());
  REQUIRE_OK(channel.status());
  const auto stub = v1::MigrationService::NewStub(*channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  const auto stream = stub->Receive(&context);
  v1::MigrateRequest offer;
  offer.mutable_offer()->set_job_id(kMigrationJob);
  offer.mutable_offer()->set_policy_version(3);
  offer.mutable_offer()->set_block_size(16);
  offer.mutable_offer()->set_block_bytes(2 * 2 * 2 * 8 * 16 * 4);
  offer.mutable_offer()->set_num_tokens(20);
  v1::MigrateResponse response;
  REQUIRE(stream->Write(offer));
  REQUIRE(stream->Read(&response));
  CHECK(rig.NumUsedBlocks() == 2);
  CHECK_FALSE(stream->Read(&response));  // nothing more is sent; the other side ends it
  CHECK(stream->Finish().error_message() == "the source sent nothing for too long");
  const absl::Time until = absl::Now() + absl::Seconds(20);
  while (rig.NumUsedBlocks() > 0 && absl::Now() < until) absl::SleepFor(absl::Milliseconds(20));
  CHECK(rig.NumUsedBlocks() == 0);
}

}  // namespace rollcall
