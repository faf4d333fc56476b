// The rollout worker against a fake coordinator over real gRPC, with a small real model.
#include "rollout_worker/rollout_service.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rollcall/v1/weights.grpc.pb.h"
#include "services/common/rpc/client.h"
#include "services/common/storage/files.h"
#include "services/model/law/kept_set.h"
#include "services/model/weights/architecture.h"
#include "services/model/weights/random_init.h"
#include "services/weight_sync/manifest_codec.h"
#include "services/weight_sync/weight_store.h"
#include "tests/support/catch.h"
#include "tests/support/fake_coordinator.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::FakeCoordinator;

constexpr char kJob[] = "job-1";

ModelConfig SmallConfig() {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 128;
  config.tie_word_embeddings = true;
  return config;
}

std::vector<TensorLayout> SmallLayout() {
  return ArenaLayout(ListParameters(SmallConfig(), Head::kLanguageModel));
}

std::vector<std::byte> SmallSnapshot(uint64_t seed) {
  std::vector<float> arena(static_cast<size_t>(ArenaValues(SmallLayout())));
  FillInitialValues(SmallConfig(), Head::kLanguageModel, seed, arena);
  const auto bytes = std::as_bytes(std::span(arena));
  return {bytes.begin(), bytes.end()};
}

v1::PromptLease MakeLease(const std::string& id, int64_t version, int num_samples = 4) {
  v1::PromptLease lease;
  lease.set_lease_id(id);
  lease.set_job_id(kJob);
  lease.set_iteration(3);
  lease.set_prompt_id(17);
  lease.set_purpose(v1::SAMPLE_PURPOSE_TRAIN);
  for (int i = 0; i < num_samples; ++i) lease.add_sample_indices(i + 1);
  for (int i = 0; i < 20; ++i) lease.add_prompt_token_ids(1 + i);
  lease.mutable_sampling()->set_temperature(1);
  lease.mutable_sampling()->set_top_p(1);
  lease.mutable_sampling()->set_max_new_tokens(12);
  lease.mutable_sampling()->add_stop_token_ids(0);
  lease.set_policy_version(version);
  lease.set_exact_version(true);
  lease.set_seed(99);
  lease.mutable_deadline()->set_seconds(30);
  return lease;
}

struct Rig {
  explicit Rig(RolloutOptions options = {}) {
    coordinator = std::make_unique<FakeCoordinator>(std::vector<grpc::Service*>{store->service()});
    store->set_address(coordinator->address());
    directory.Write("config.json", ModelConfigToJson(SmallConfig()));
    coordinator->SetModelPath(directory.path().string());
    auto made = MakeChannel(coordinator->address());
    REQUIRE_OK(made.status());
    channel = *made;
    fleet = FleetClient::Start({.role = Role::kRollout, .name = "rollout-0"}, channel, logger,
                               [this](const std::vector<std::string>& jobs) {
                                 MutexLock lock(mu);
                                 if (service) service->DropJobs(jobs);
                               });
    options.poll_wait = absl::Milliseconds(100);
    auto started = std::make_unique<RolloutService>(
        options, RolloutService::Parts{.coordinator = channel,
                                       .fleet = *fleet,
                                       .metrics = *metrics,
                                       .logger = logger,
                                       .clock = clock,
                                       .on_drain = [this] { drain_asked = true; }});
    MutexLock lock(mu);
    service = std::move(started);
  }
  ~Rig() {
    std::unique_ptr<RolloutService> ended;
    {
      MutexLock lock(mu);
      ended = std::move(service);
    }
    ended.reset();
    fleet.reset();
  }
  Manifest Publish(int64_t version, uint64_t seed,
                   TransportChoice transport = TransportChoice::kGrpc) {
    auto manifest =
        store->Publish(kJob, version, 1, SmallLayout(), SmallSnapshot(seed), transport, 4);
    REQUIRE_OK(manifest.status());
    coordinator->Publish(ManifestToProto(*manifest));
    return *manifest;
  }
  bool WaitForSubmissions(size_t count) {
    return coordinator->WaitUntil(
        [&](const FakeCoordinator::Log& log) { return log.submissions.size() >= count; });
  }

  NullLogger logger;
  SystemClock clock;
  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  testing::TempDir directory;
  std::unique_ptr<WeightStore> store = MakeWeightStore(logger);
  std::unique_ptr<FakeCoordinator> coordinator;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<FleetClient> fleet;
  std::atomic<bool> drain_asked{false};
  Mutex mu;
  std::unique_ptr<RolloutService> service;
};

// Serves the bytes with one of them changed; every chunk's checksum fits.
class LyingWeights final : public v1::WeightService::Service {
 public:
  grpc::Status FetchWeights(grpc::ServerContext*, const v1::FetchWeightsRequest* request,
                            grpc::ServerWriter<v1::WeightChunk>* writer) override {
    std::vector<std::byte> snapshot = SmallSnapshot(1);
    snapshot[5] ^= std::byte{1};
    v1::WeightChunk chunk;
    const auto rest = std::span(snapshot).subspan(request->offset_bytes());
    chunk.set_offset_bytes(request->offset_bytes());
    chunk.set_data(rest.data(), rest.size());
    chunk.set_checksum(HashBytes64(rest));
    writer->Write(chunk);
    return grpc::Status::OK;
  }
};

}  // namespace

TEST_CASE("RolloutService: a lease becomes trajectories under the leased version",
          "[rpc][rollout]") {
  Rig rig;
  rig.Publish(7, 1);
  rig.coordinator->Give(MakeLease("a", 7));
  REQUIRE(rig.WaitForSubmissions(1));
  const auto log = rig.coordinator->log();
  REQUIRE(log.receipts.size() == 1);
  CHECK(log.receipts[0].policy_version() == 7);
  CHECK(log.receipts[0].transport() == "grpc");
  const v1::SubmitTrajectoriesRequest& answer = log.submissions[0];
  CHECK(answer.lease_id() == "a");
  CHECK(answer.worker_id() == log.registered[0]);
  CHECK(answer.failures_size() == 0);
  REQUIRE(answer.trajectories_size() == 4);
  for (int i = 0; i < 4; ++i) {
    const v1::Trajectory& trajectory = answer.trajectories(i);
    CHECK(trajectory.key().job_id() == kJob);
    CHECK(trajectory.key().iteration() == 3);
    CHECK(trajectory.key().prompt_id() == 17);
    CHECK(trajectory.key().sample_index() == i + 1);
    CHECK(trajectory.key().purpose() == v1::SAMPLE_PURPOSE_TRAIN);
    CHECK(trajectory.prompt_token_ids_size() == 20);
    REQUIRE(trajectory.segments_size() == 1);
    const v1::Segment& segment = trajectory.segments(0);
    CHECK(segment.kind() == v1::SEGMENT_KIND_POLICY);
    CHECK(segment.policy_version() == 7);
    REQUIRE(segment.token_ids_size() >= 1);
    CHECK(segment.behavior_logprobs_size() == segment.token_ids_size());
    for (const float logprob : segment.behavior_logprobs()) CHECK(logprob < 0);
    const bool stopped = segment.token_ids(segment.token_ids_size() - 1) == 0;
    CHECK(trajectory.finish_reason() ==
          (stopped ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH));
    CHECK((stopped || segment.token_ids_size() == 12));
  }
}

TEST_CASE("RolloutService: a law that restricts comes with what it kept", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(7, 1);
  v1::PromptLease lease = MakeLease("a", 7);
  lease.mutable_sampling()->set_top_k(5);
  lease.mutable_sampling()->set_repetition_penalty(1.3);
  lease.mutable_sampling()->add_banned_token_ids(3);
  rig.coordinator->Give(lease);
  v1::PromptLease evaluation = lease;
  evaluation.set_lease_id("b");
  evaluation.set_purpose(v1::SAMPLE_PURPOSE_EVALUATE);
  rig.coordinator->Give(evaluation);
  REQUIRE(rig.WaitForSubmissions(2));
  for (const auto& answer : rig.coordinator->log().submissions) {
    REQUIRE(answer.trajectories_size() == 4);
    for (const v1::Trajectory& trajectory : answer.trajectories()) {
      const v1::Segment& segment = trajectory.segments(0);
      if (answer.lease_id() == "b") {
        CHECK(segment.kept_sets().empty());
        continue;
      }
      REQUIRE_OK_AND_ASSIGN(const KeptSets kept,
                            KeptSets::Parse(segment.kept_sets(), segment.token_ids_size(), 61));
      for (int t = 0; t < segment.token_ids_size(); ++t) {
        std::vector<int32_t> ids;
        kept.Decode(t, &ids);
        CHECK(ids.size() == 5);
        CHECK(kept.Contains(t, segment.token_ids(t)));
        CHECK(!kept.Contains(t, 3));
      }
    }
  }
}

TEST_CASE("RolloutService: a lease may bound what its samples keep in memory", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(7, 1);
  const auto give = [&](const std::string& id, int32_t num_tokens) {
    v1::PromptLease lease = MakeLease(id, 7);
    lease.mutable_sampling()->clear_stop_token_ids();
    if (num_tokens > 0) {
      lease.mutable_sampling()->mutable_kv_budget()->set_num_heavy(num_tokens);
      lease.mutable_sampling()->mutable_kv_budget()->set_num_recent(num_tokens);
    }
    rig.coordinator->Give(lease);
  };
  give("whole", 0);
  give("covered", 16);
  give("forgetful", 2);
  REQUIRE(rig.WaitForSubmissions(3));
  std::map<std::string, std::vector<float>> logprobs;
  for (const auto& answer : rig.coordinator->log().submissions) {
    CHECK(answer.failures_size() == 0);
    for (const v1::Trajectory& trajectory : answer.trajectories()) {
      const auto& some = trajectory.segments(0).behavior_logprobs();
      logprobs[answer.lease_id()].insert(logprobs[answer.lease_id()].end(), some.begin(),
                                         some.end());
    }
  }
  CHECK(logprobs.at("whole").size() == 4 * 12);
  CHECK(logprobs.at("covered") == logprobs.at("whole"));
  CHECK(logprobs.at("forgetful") != logprobs.at("whole"));
}

TEST_CASE("RolloutService: the same sample is the same on another worker and in other company",
          "[rpc][rollout]") {
  std::vector<v1::Segment> segments;
  for (int round = 0; round < 2; ++round) {
    Rig rig;
    rig.Publish(0, 1);
    if (round == 1) {
      for (int i = 0; i < 3; ++i) {
        v1::PromptLease other = MakeLease("other" + std::to_string(i), 0);
        other.set_prompt_id(100 + i);
        rig.coordinator->Give(other);
      }
    }
    rig.coordinator->Give(MakeLease("a", 0));
    REQUIRE(rig.WaitForSubmissions(round == 0 ? 1 : 4));
    for (const auto& answer : rig.coordinator->log().submissions) {
      if (answer.lease_id() == "a") segments.push_back(answer.trajectories(2).segments(0));
    }
  }
  REQUIRE(segments.size() == 2);
  CHECK(segments[0].SerializeAsString() == segments[1].SerializeAsString());
}

TEST_CASE("RolloutService: a new version is loaded when a lease asks for it", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(0, 1, TransportChoice::kSharedMemory);
  rig.coordinator->Give(MakeLease("a", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  rig.coordinator->Give(MakeLease("b", 1));  // not published yet: waits
  rig.Publish(1, 2, TransportChoice::kSharedMemory);
  REQUIRE(rig.WaitForSubmissions(2));
  const auto log = rig.coordinator->log();
  CHECK(log.receipts.size() == 2);
  CHECK(log.receipts[0].transport() == "shared_memory");
  CHECK(log.submissions[1].trajectories(0).segments(0).policy_version() == 1);
}

TEST_CASE("RolloutService: a lease that takes any version gets the newest", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(4, 1);
  rig.Publish(6, 2);
  v1::PromptLease lease = MakeLease("a", 3);
  lease.set_exact_version(false);
  rig.coordinator->Give(lease);
  REQUIRE(rig.WaitForSubmissions(1));
  CHECK(rig.coordinator->log().submissions[0].trajectories(0).segments(0).policy_version() == 6);
}

TEST_CASE("RolloutService: weights published anew under an old number are taken again",
          "[rpc][rollout]") {
  RolloutOptions options;
  options.loader.recheck_interval = absl::ZeroDuration();
  Rig rig(options);
  rig.Publish(1, 1);
  rig.coordinator->Give(MakeLease("a", 1));
  REQUIRE(rig.WaitForSubmissions(1));
  rig.coordinator->Give(MakeLease("b", 1));  // the same weights: no second receipt
  REQUIRE(rig.WaitForSubmissions(2));
  CHECK(rig.coordinator->log().receipts.size() == 1);
  const Manifest anew = rig.Publish(1, 5);
  rig.coordinator->Give(MakeLease("c", 1));
  REQUIRE(rig.WaitForSubmissions(3));
  const auto log = rig.coordinator->log();
  REQUIRE(log.receipts.size() == 2);
  CHECK(log.receipts[1].hash() == std::string(anew.hash.begin(), anew.hash.end()));
  const auto tokens = [&](int i) {
    return log.submissions[static_cast<size_t>(i)].trajectories(0).segments(0).SerializeAsString();
  };
  CHECK(tokens(0) == tokens(1));
  CHECK(tokens(0) != tokens(2));
}

TEST_CASE("RolloutService: corrupt weights are refused, named, and never acknowledged",
          "[rpc][rollout]") {
  LyingWeights lying;
  auto server = RpcServer::Start({}, {&lying});
  REQUIRE_OK(server.status());
  Rig rig;
  auto manifest = BuildManifest(kJob, 0, 1, SmallLayout(), SmallSnapshot(1));
  REQUIRE_OK(manifest.status());
  manifest->sources.push_back(
      {.kind = WeightSourceInfo::Kind::kGrpc, .address = (*server)->address()});
  rig.coordinator->Publish(ManifestToProto(*manifest));
  rig.coordinator->Give(MakeLease("a", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  const auto log = rig.coordinator->log();
  CHECK(log.receipts.empty());
  const v1::SubmitTrajectoriesRequest& answer = log.submissions[0];
  CHECK(answer.trajectories_size() == 0);
  REQUIRE(answer.failures_size() == 4);
  const v1::Failure& failure = answer.failures(0).failure();
  CHECK(failure.kind() == v1::Failure::KIND_INFRASTRUCTURE);
  CHECK(failure.reason() == "corrupt_weights");
  CHECK(failure.message().find("model.embed_tokens.weight") != std::string::npos);
}

TEST_CASE("RolloutService: weights of another model are refused by tensor name", "[rpc][rollout]") {
  Rig rig;
  ModelConfig other = SmallConfig();
  other.vocab_size = 62;
  rig.directory.Write("config.json", ModelConfigToJson(other));
  rig.Publish(0, 1);
  rig.coordinator->Give(MakeLease("a", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  const auto log = rig.coordinator->log();
  CHECK(log.receipts.empty());
  REQUIRE(log.submissions[0].failures_size() == 4);
  const v1::Failure& failure = log.submissions[0].failures(0).failure();
  CHECK(failure.reason() == "weights_mismatch");
  CHECK(failure.message().find("model.embed_tokens.weight") != std::string::npos);
}

TEST_CASE("RolloutService: a prompt that does not fit is a failure of the data", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(0, 1);
  v1::PromptLease lease = MakeLease("a", 0);
  for (int i = 0; i < 200; ++i) lease.add_prompt_token_ids(5);
  rig.coordinator->Give(lease);
  REQUIRE(rig.WaitForSubmissions(1));
  const auto log = rig.coordinator->log();
  REQUIRE(log.submissions[0].failures_size() == 4);
  const v1::Failure& failure = log.submissions[0].failures(0).failure();
  CHECK(failure.kind() == v1::Failure::KIND_DATA);
  CHECK(failure.reason() == "prompt_too_long");
  CHECK(failure.message().find("220") != std::string::npos);
}

TEST_CASE("RolloutService: a fenced worker drops its leases and registers again",
          "[rpc][rollout]") {
  Rig rig;
  rig.coordinator->Give(MakeLease("old", 0));  // no weights yet: stays held
  REQUIRE(rig.coordinator->WaitUntil([&](const FakeCoordinator::Log& log) {
    return log.registered.size() == 1 && log.num_waiting_leases == 0;
  }));
  rig.coordinator->Fence(rig.coordinator->log().registered[0]);
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log& log) { return log.registered.size() == 2; }));
  rig.coordinator->Give(MakeLease("new", 0));
  rig.Publish(0, 1);
  REQUIRE(rig.WaitForSubmissions(1));
  const auto log = rig.coordinator->log();
  CHECK(log.submissions.size() == 1);
  CHECK(log.submissions[0].lease_id() == "new");
  CHECK(log.submissions[0].worker_id() == log.registered[1]);
  CHECK(log.receipts.back().worker_id() == log.registered[1]);
}

TEST_CASE("RolloutService: a receipt is sent again after a new registration", "[rpc][rollout]") {
  Rig rig;
  rig.Publish(0, 1);
  rig.coordinator->Give(MakeLease("a", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  rig.coordinator->Fence(rig.coordinator->log().registered[0]);
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log& log) { return log.registered.size() == 2; }));
  rig.coordinator->Give(MakeLease("b", 0));
  REQUIRE(rig.WaitForSubmissions(2));
  const auto log = rig.coordinator->log();
  REQUIRE(log.receipts.size() == 2);
  CHECK(log.receipts[1].worker_id() == log.registered[1]);
}

TEST_CASE("RolloutService: a lease that passes its deadline is dropped", "[rpc][rollout]") {
  Rig rig;
  v1::PromptLease late = MakeLease("late", 5);  // a version that is never published
  late.mutable_deadline()->set_seconds(0);
  late.mutable_deadline()->set_nanos(150'000'000);
  rig.coordinator->Give(late);
  rig.Publish(0, 1);
  rig.coordinator->Give(MakeLease("fine", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log&) { return rig.service->num_held() == 0; }));
  const auto log = rig.coordinator->log();
  REQUIRE(log.submissions.size() == 1);
  CHECK(log.submissions[0].lease_id() == "fine");
}

TEST_CASE("RolloutService: an answer is offered again while the coordinator is away",
          "[rpc][rollout]") {
  Rig rig;
  rig.Publish(0, 1);
  rig.coordinator->RefuseSubmissions(2);
  rig.coordinator->Give(MakeLease("a", 0));
  REQUIRE(rig.WaitForSubmissions(1));
  CHECK(rig.coordinator->log().refused == 2);
}

TEST_CASE("RolloutService: leases of a job that ended are dropped", "[rpc][rollout]") {
  Rig rig;
  rig.coordinator->Give(MakeLease("a", 9));
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log&) { return rig.service->num_held() == 4; }));
  rig.coordinator->EndJob(kJob);
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log&) { return rig.service->num_held() == 0; }));
  CHECK(rig.coordinator->log().submissions.empty());
}

TEST_CASE("RolloutService: a drain hands back what cannot finish", "[rpc][rollout]") {
  Rig rig;
  rig.coordinator->Give(MakeLease("a", 9));  // never published
  REQUIRE(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log&) { return rig.service->num_held() == 4; }));
  rig.service->Drain(absl::Milliseconds(50));
  const auto log = rig.coordinator->log();
  REQUIRE(log.submissions.size() == 1);
  REQUIRE(log.submissions[0].failures_size() == 4);
  CHECK(log.submissions[0].failures(3).failure().reason() == "draining");
  CHECK(log.submissions[0].failures(3).failure().kind() == v1::Failure::KIND_INFRASTRUCTURE);
}

TEST_CASE("RolloutService: a drain lets running work finish", "[rpc][rollout]") {
  Rig rig;
  for (int i = 0; i < 4; ++i) {
    v1::PromptLease lease = MakeLease("a" + std::to_string(i), 0, 8);
    lease.mutable_sampling()->set_max_new_tokens(100);
    rig.coordinator->Give(lease);
  }
  rig.Publish(0, 1);
  REQUIRE(rig.coordinator->WaitUntil(
      [](const FakeCoordinator::Log& log) { return log.receipts.size() == 1; }));
  rig.service->Drain(absl::Seconds(20));
  int trajectories = 0;
  for (const auto& answer : rig.coordinator->log().submissions) {
    CHECK(answer.failures_size() == 0);
    trajectories += answer.trajectories_size();
  }
  CHECK(trajectories % 8 == 0);
  CHECK(trajectories >= 8);
}

TEST_CASE("RolloutService: the coordinator can ask the worker to leave", "[rpc][rollout]") {
  Rig rig;
  rig.coordinator->AskToDrain();
  CHECK(rig.coordinator->WaitUntil(
      [&](const FakeCoordinator::Log&) { return rig.drain_asked.load(); }));
}

}  // namespace rollcall
