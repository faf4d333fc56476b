// The learner process without its process: services against a coordinator over real gRPC, ranks
// over real Gloo.

#include <filesystem>
#include <fstream>
#include <memory>

#include "services/base/runtime/clock.h"
#include "services/base/runtime/random.h"
#include "services/common/rpc/client.h"
#include "services/model/weights/init_model.h"
#include "services/weight_sync/manifest_codec.h"
#include "services/weight_sync/weight_fetcher.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/trainer/learner_coordinator.h"
#include "trainer/learner_service.h"

namespace rollcall {
namespace {

using testing::LearnerCoordinator;
using testing::TempDir;
using Log = LearnerCoordinator::Log;

std::string WriteModel(const TempDir& dir) {
  InitModelOptions options;
  options.directory = dir.File("model");
  options.seed = 1;
  options.config = {.vocab_size = 32,
                    .hidden_size = 16,
                    .intermediate_size = 24,
                    .num_layers = 2,
                    .num_heads = 2,
                    .num_kv_heads = 1,
                    .head_dim = 8,
                    .max_positions = 64,
                    .eos_token_ids = {2},
                    .bos_token_id = 1};
  REQUIRE_OK(InitModelDirectory(options));
  std::ofstream(options.directory + "/tokenizer.json") << "{}";
  return options.directory;
}

v1::Batch RandomBatch(int64_t step) {
  CounterRandom random(static_cast<uint64_t>(step));
  v1::Batch batch;
  batch.set_step(step);
  batch.set_num_groups(4);
  for (int g = 0; g < 4; ++g) {
    v1::PromptGroup* group = batch.add_groups();
    for (int i = 0; i < 3; ++i) {
      v1::Experience* experience = group->add_experiences();
      v1::Trajectory* trajectory = experience->mutable_trajectory();
      trajectory->mutable_key()->set_prompt_id(g);
      trajectory->mutable_key()->set_sample_index(i);
      trajectory->add_prompt_token_ids(1);
      trajectory->add_prompt_token_ids(3 + g);
      v1::Segment* segment = trajectory->add_segments();
      segment->set_kind(v1::SEGMENT_KIND_POLICY);
      for (int t = 0; t < 4; ++t) {
        segment->add_token_ids(static_cast<int32_t>(random.Below(32)));
        segment->add_behavior_logprobs(-3.4F);
      }
      trajectory->set_finish_reason(v1::FINISH_REASON_LENGTH);
      experience->set_reward(static_cast<double>(random.Below(3)));
      batch.set_num_samples(batch.num_samples() + 1);
    }
  }
  return batch;
}

v1::JobSpec Spec(const std::string& model_path) {
  v1::JobSpec spec;
  spec.mutable_run()->set_seed(5);
  spec.mutable_model()->set_path(model_path);
  spec.mutable_data()->set_kind(v1::DataSpec::PROMPTS);
  spec.mutable_rollout()->set_temperature(1.0);
  spec.mutable_rollout()->set_max_new_tokens(4);
  v1::AlgorithmSpec& algorithm = *spec.mutable_algorithm();
  algorithm.set_advantage("group_norm");
  algorithm.set_loss("ppo_clip");
  algorithm.set_aggregation("token_mean");
  algorithm.set_pair_builder("none");
  algorithm.set_correction("none");
  algorithm.set_clip_low(0.2);
  algorithm.set_clip_high(0.2);
  algorithm.set_correction_cap(2.0);
  v1::OptimizerSpec& optimizer = *spec.mutable_optimizer();
  optimizer.set_learning_rate(1e-3);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_epsilon(1e-8);
  optimizer.set_max_grad_norm(1.0);
  v1::TrainSpec& train = *spec.mutable_train();
  train.set_total_steps(5);
  train.set_epochs_per_step(1);
  train.set_minibatches_per_epoch(1);
  train.set_max_tokens_per_microbatch(100);
  spec.mutable_sync()->set_transport(v1::SyncSpec::GRPC);
  spec.mutable_checkpoint()->set_interval_steps(2);
  spec.mutable_checkpoint()->set_keep_last(2);
  spec.mutable_resources()->mutable_stall_timeout()->set_seconds(15);
  return spec;
}

// One learner process.
class Rank {
 public:
  Rank(const std::string& name, const std::string& coordinator)
      : weights_(MakeWeightStore(logger_)), metrics_(MakeNullMetrics()) {
    auto server = RpcServer::Start({}, {weights_->service()});
    REQUIRE_OK(server.status());
    server_ = std::move(server).value();
    weights_->set_address(server_->address());
    auto channel = MakeChannel(coordinator);
    REQUIRE_OK(channel.status());
    fleet_ = FleetClient::Start({.role = Role::kLearner,
                                 .name = name,
                                 .address = server_->address(),
                                 .metrics_address = ""},
                                *channel, logger_, nullptr);
    AssignmentOptions options;
    options.poll_wait = absl::Milliseconds(300);
    service_ =
        std::make_unique<LearnerService>(options, LearnerService::Parts{.coordinator = *channel,
                                                                        .fleet = *fleet_,
                                                                        .weights = *weights_,
                                                                        .metrics = *metrics_,
                                                                        .logger = logger_,
                                                                        .clock = clock_});
  }
  ~Rank() {
    service_.reset();
    fleet_.reset();
    server_->Shutdown(absl::Seconds(1));
  }
  LearnerService& service() { return *service_; }

 private:
  NullLogger logger_;
  SystemClock clock_;
  std::unique_ptr<WeightStore> weights_;
  std::unique_ptr<MetricsRegistry> metrics_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<FleetClient> fleet_;
  std::unique_ptr<LearnerService> service_;
};

// Weights of each committed version, the last commit of a step counting.
std::map<int64_t, std::string> Hashes(const Log& log) {
  std::map<int64_t, std::string> hashes;
  for (const v1::CommitStepRequest& commit : log.commits) {
    hashes[commit.step()] = commit.manifest().hash();
  }
  return hashes;
}

bool Finished(const Log& log, size_t ranks) { return log.finishes.size() == ranks; }

// A job of five steps on two ranks that nothing disturbs.
Log Undisturbed(const TempDir& dir, const std::string& run, const std::string& model) {
  LearnerCoordinator coordinator(
      {.spec = Spec(model), .run_dir = dir.File(run), .batch = RandomBatch});
  Rank a("learner-0", coordinator.address());
  Rank b("learner-1", coordinator.address());
  coordinator.OpenGroup(2);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 2); }));
  return coordinator.log();
}

TEST_CASE("Service: two ranks train a job to its end", "[unit][trainer]") {
  const TempDir dir;
  const std::string model = WriteModel(dir);
  const Log log = Undisturbed(dir, "run", model);
  REQUIRE(log.offers.size() == 1);
  CHECK(log.offers[0].policy_version() == 0);
  REQUIRE(log.commits.size() == 5);
  for (int64_t step = 1; step <= 5; ++step) {
    const v1::CommitStepRequest& commit = log.commits[step - 1];
    CHECK(commit.step() == step);
    CHECK(commit.member().rank() == 0);
    CHECK(commit.manifest().policy_version() == step);
    CHECK(commit.optimizer_updates() == 1);
    for (const char* name : {"loss", "grad_norm", "reward_mean", "logprob_gap_max", "entropy",
                             "ratio_mean", "seconds_wait_batch", "seconds_publish"}) {
      INFO(name);
      CHECK(commit.metrics().count(name) == 1);
    }
    CHECK(commit.metrics().at("truncated_share") == 1.0);
    CHECK(log.batches.at(step) == 2);
  }
  std::vector<int64_t> steps;
  for (const auto& checkpoint : log.checkpoints) steps.push_back(checkpoint.step());
  CHECK(steps == std::vector<int64_t>{2, 4, 5});
  for (const auto& finish : log.finishes) CHECK_FALSE(finish.has_failure());
  CHECK(std::filesystem::exists(dir.path() / "run/final/model.safetensors"));
  CHECK(std::filesystem::exists(dir.path() / "run/final/tokenizer.json"));
  CHECK_FALSE(std::filesystem::exists(dir.path() / "run/checkpoints/step_2"));  // keep_last 2
  CHECK(std::filesystem::exists(dir.path() / "run/checkpoints/step_4"));
}

TEST_CASE("Service: what is offered can be fetched and verified", "[unit][trainer]") {
  const TempDir dir;
  LearnerCoordinator coordinator(
      {.spec = Spec(WriteModel(dir)), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(1);
  Rank rank("learner-0", coordinator.address());
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.commits.size() == 1; }));
  REQUIRE_OK_AND_ASSIGN(const Manifest manifest,
                        ManifestFromProto(coordinator.log().commits[0].manifest()));
  REQUIRE_OK_AND_ASSIGN(const FetchedWeights fetched,
                        FetchWeights(manifest, {}, absl::Seconds(10)));
  CHECK(fetched.snapshot.size() == manifest.total_bytes);
}

TEST_CASE("Service: a fenced group resumes from its checkpoint with the same weights",
          "[unit][trainer]") {
  const TempDir dir;
  const std::string model = WriteModel(dir);
  const Log quiet = Undisturbed(dir, "quiet", model);

  LearnerCoordinator coordinator(
      {.spec = Spec(model), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(3);
  Rank a("learner-0", coordinator.address());
  Rank b("learner-1", coordinator.address());
  coordinator.OpenGroup(2);
  REQUIRE(coordinator.WaitUntil(
      [](const Log& log) { return log.commits.size() == 3 && log.checkpoints.size() == 1; }));
  coordinator.Fence();
  coordinator.HoldAfter(100);
  coordinator.OpenGroup(2);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 2); }));
  const Log log = coordinator.log();
  CHECK(log.fenced_calls > 0);
  CHECK(log.assignments == 4);
  CHECK(log.offers.back().policy_version() == 2);
  CHECK(log.commits.size() == 3 + 3);  // step 3 again
  CHECK(Hashes(log) == Hashes(quiet));
}

TEST_CASE("Service: a rank whose peer is gone says so and serves the next group",
          "[unit][trainer]") {
  const TempDir dir;
  const std::string model = WriteModel(dir);
  LearnerCoordinator coordinator(
      {.spec = Spec(model), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(2);
  Rank stays("learner-0", coordinator.address());
  auto dies = std::make_unique<Rank>("learner-1", coordinator.address());
  coordinator.OpenGroup(2);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.checkpoints.size() == 1; }));
  dies.reset();
  coordinator.HoldAfter(100);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 2); }));
  for (const auto& finish : coordinator.log().finishes) {
    CHECK(finish.failure().kind() == v1::Failure::KIND_INFRASTRUCTURE);
  }
  coordinator.Fence();
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 3); }));
  CHECK_FALSE(coordinator.log().finishes.back().has_failure());
}

TEST_CASE("Service: a corrupt checkpoint stops the job and is named", "[unit][trainer]") {
  const TempDir dir;
  const std::string model = WriteModel(dir);
  LearnerCoordinator coordinator(
      {.spec = Spec(model), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(2);
  Rank rank("learner-0", coordinator.address());
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.checkpoints.size() == 1; }));
  coordinator.Fence();
  const auto file = dir.path() / "run/checkpoints/step_2/optimizer.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 1); }));
  const v1::Failure failure = coordinator.log().finishes[0].failure();
  CHECK(failure.kind() == v1::Failure::KIND_DATA);
  CHECK_THAT(failure.message(), Catch::Contains(file.string()));
  CHECK(failure.reason() == "learner_load");
}

TEST_CASE("Service: a bad batch is a data failure of the update", "[unit][trainer]") {
  const TempDir dir;
  LearnerCoordinator coordinator(
      {.spec = Spec(WriteModel(dir)), .run_dir = dir.File("run"), .batch = [](int64_t step) {
         v1::Batch batch = RandomBatch(step);
         batch.mutable_groups(1)
             ->mutable_experiences(0)
             ->mutable_trajectory()
             ->mutable_segments(0)
             ->set_token_ids(0, 99);
         return batch;
       }});
  Rank rank("learner-0", coordinator.address());
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return Finished(log, 1); }));
  const v1::Failure failure = coordinator.log().finishes[0].failure();
  CHECK(failure.kind() == v1::Failure::KIND_DATA);
  CHECK_THAT(failure.message(), Catch::Contains("prompt 1, sample 0: token 99"));
}

TEST_CASE("Service: a stop hands the assignment back", "[unit][trainer]") {
  const TempDir dir;
  LearnerCoordinator coordinator(
      {.spec = Spec(WriteModel(dir)), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(1);
  Rank rank("learner-0", coordinator.address());
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.phases.count("wait_batch") > 0; }));
  rank.service().Stop(absl::Seconds(10));
  const Log log = coordinator.log();
  REQUIRE(log.finishes.size() == 1);
  CHECK(log.finishes[0].failure().kind() == v1::Failure::KIND_INFRASTRUCTURE);
  CHECK(log.finishes[0].failure().reason() == "stopping");
}

TEST_CASE("Service: the end of a job breaks off what runs for it", "[unit][trainer]") {
  const TempDir dir;
  LearnerCoordinator coordinator(
      {.spec = Spec(WriteModel(dir)), .run_dir = dir.File("run"), .batch = RandomBatch});
  coordinator.HoldAfter(1);
  Rank rank("learner-0", coordinator.address());
  coordinator.OpenGroup(1);
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.commits.size() == 1; }));
  rank.service().DropJobs({"another-job"});
  rank.service().DropJobs({"job-1"});
  coordinator.OpenGroup(1);  // the rank is free again
  REQUIRE(coordinator.WaitUntil([](const Log& log) { return log.assignments == 2; }));
}

}  // namespace
}  // namespace rollcall
