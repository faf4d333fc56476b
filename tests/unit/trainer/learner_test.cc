#include "trainer/learner/learner.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>

#include "tests/support/catch_torch.h"
#include "tests/unit/trainer/learner_fixture.h"
#include "tests/unit/trainer/thread_group.h"
#include "trainer/batch/packing.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/learner/forward.h"
#include "trainer/learner/host_vector.h"

namespace rollcall {
namespace {

using testing::BatchShape;
using testing::Distance;
using testing::GradientOptions;
using testing::Parameters;
using testing::RandomBatch;
using testing::ShareOf;
using testing::TempDir;
using testing::WriteTinyModel;

// Gradients are sums of float32 products in another order; entries are below one.
constexpr double kSameGradient = 2e-6;

AlgorithmOptions Grpo() {
  return {.advantage = "group_norm",
          .loss = "ppo_clip",
          .aggregation = "seq_mean_token_mean",
          .correction = "token_truncate",
          .kl_placement = KlPlacement::kLoss,
          .kl_estimator = "k3",
          .kl_coefficient = 0.04};
}

AlgorithmOptions Ppo() {
  return {.advantage = "gae",
          .loss = "ppo_clip",
          .aggregation = "token_mean",
          .whiten_advantages = true,
          .kl_placement = KlPlacement::kReward,
          .kl_estimator = "k1",
          .kl_coefficient = 0.05,
          .entropy_coefficient = 0.01};
}

AlgorithmOptions Dpo() {
  return {.advantage = "none",
          .loss = "dpo",
          .aggregation = "item_mean",
          .pair_builder = "as_given",
          .beta = 0.5};
}

AlgorithmOptions OnlineDpo() {
  AlgorithmOptions options = Dpo();
  options.pair_builder = "best_worst";
  return options;
}

AlgorithmOptions Sft() { return {.advantage = "none", .loss = "nll", .aggregation = "token_mean"}; }

struct NamedMethod {
  std::string name;
  AlgorithmOptions algorithm;
  bool sampled = true;
};

std::vector<NamedMethod> AllMethods() {
  return {{"grpo", Grpo()},
          {"ppo", Ppo()},
          {"dpo", Dpo(), false},
          {"online_dpo", OnlineDpo()},
          {"sft", Sft(), false}};
}

StatusOr<std::unique_ptr<Learner>> MakeLone(const LearnerOptions& options) {
  static const SystemClock clock;
  return MakeLearner(
      options,
      []() -> StatusOr<std::unique_ptr<Communicator>> { return testing::MakeLoneCommunicator(); },
      clock, {});
}

struct Outcome {
  Status status;
  std::vector<float> parameters;
  std::map<std::string, double> metrics;
};

Outcome TrainAlone(const LearnerOptions& options, const TrainBatch& batch) {
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  REQUIRE_OK_AND_ASSIGN(const StepReport report, learner->Update(batch));
  return {OkStatus(), Parameters(*learner), report.metrics};
}

std::vector<Outcome> TrainOnRanks(int world_size, const LearnerOptions& options,
                                  const TrainBatch& batch) {
  const SystemClock clock;
  std::vector<Outcome> outcomes(world_size);
  std::vector<std::unique_ptr<Learner>> learners(world_size);
  testing::RunRanks(world_size, [&](std::unique_ptr<Communicator> communicator) {
    const int rank = communicator->rank();
    Outcome& outcome = outcomes[rank];
    auto learner = MakeLearner(
        options,
        [&]() -> StatusOr<std::unique_ptr<Communicator>> { return std::move(communicator); }, clock,
        {});
    outcome.status = learner.status();
    if (!learner.ok()) return;
    const auto report = (*learner)->Update(ShareOf(batch, rank, world_size));
    outcome.status = report.status();
    if (!report.ok()) return;
    outcome.metrics = report->metrics;
    learners[rank] = std::move(*learner);
  });
  for (int rank = 0; rank < world_size; ++rank) {
    if (learners[rank]) outcomes[rank].parameters = Parameters(*learners[rank]);
  }
  return outcomes;
}

// Metrics that do not depend on how fast this machine is.
std::map<std::string, double> Timeless(std::map<std::string, double> metrics) {
  std::erase_if(metrics, [](const auto& entry) {
    return entry.first.starts_with("seconds_") || entry.first == "tokens_per_second";
  });
  return metrics;
}

TEST_CASE("Learner: the token budget of a micro-batch does not change the update",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  for (const NamedMethod& method : AllMethods()) {
    INFO(method.name);
    options.algorithm = method.algorithm;
    const TrainBatch batch = RandomBatch({.sampled = method.sampled});
    options.max_tokens_per_microbatch = 100000;
    const Outcome whole = TrainAlone(options, batch);
    options.max_tokens_per_microbatch = 12;
    const Outcome cut = TrainAlone(options, batch);
    CHECK(whole.metrics.at("grad_norm") > 1e-3);
    CHECK(Distance(whole.parameters, cut.parameters) < kSameGradient);
    CHECK(whole.metrics.at("loss") == Approx(cut.metrics.at("loss")).epsilon(1e-6));
  }
}

TEST_CASE("Learner: the number of ranks does not change the update", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.epochs_per_step = 2;
  options.minibatches_per_epoch = 2;
  options.max_tokens_per_microbatch = 40;
  for (const NamedMethod& method : AllMethods()) {
    options.algorithm = method.algorithm;
    const TrainBatch batch = RandomBatch({.sampled = method.sampled});
    const Outcome alone = TrainAlone(options, batch);
    CHECK(alone.metrics.at("updates") == 4);
    for (const int world_size : {2, 7}) {  // with seven some ranks have no group
      INFO(method.name << " on " << world_size << " ranks");
      const std::vector<Outcome> outcomes = TrainOnRanks(world_size, options, batch);
      for (const Outcome& outcome : outcomes) {
        REQUIRE_OK(outcome.status);
        CHECK(outcome.parameters == outcomes[0].parameters);  // bit for bit
        CHECK(Timeless(outcome.metrics) == Timeless(outcomes[0].metrics));
      }
      // Four updates, each from weights that differ by the error of the one before.
      CHECK(Distance(alone.parameters, outcomes[0].parameters) < 10 * kSameGradient);
      for (const auto& [name, value] : Timeless(alone.metrics)) {
        INFO(name);
        CHECK(outcomes[0].metrics.at(name) == Approx(value).epsilon(1e-4).margin(1e-5));
      }
    }
  }
}

TEST_CASE("Learner: on-policy samples have no gap, ratio one and nothing clipped",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Grpo();
  options.temperature = 0.7;
  options.max_tokens_per_microbatch = 30;
  TrainBatch batch = RandomBatch({});
  REQUIRE_OK_AND_ASSIGN(const ModelWeights weights,
                        LoadWeights(options.model_path, Head::kLanguageModel, Gradients::kNone));
  for (TrainGroup& group : batch.groups) {
    for (TrainSequence& sequence : group.sequences) {
      if (NumTrainable(sequence) == 0) continue;
      const std::vector<const TrainSequence*> one = {&sequence};
      const PackedTokens packed = Pack(one, std::vector<int64_t>{0});
      REQUIRE_OK_AND_ASSIGN(const TokenLogprobs pass, ForwardLogprobs(weights, packed, 0.7));
      const std::vector<double> logprobs = ToVector(pass.logprobs_N);
      const std::vector<int64_t> positions = TrainablePositions(sequence);
      for (size_t i = 0; i < positions.size(); ++i) {
        sequence.behavior_logprobs[positions[i]] = static_cast<float>(logprobs[i]);
      }
    }
  }
  const Outcome outcome = TrainAlone(options, batch);
  CHECK(outcome.metrics.at("logprob_gap_max") == 0);
  CHECK(outcome.metrics.at("ratio_mean") == 1);
  CHECK(outcome.metrics.at("clip_fraction_low") == 0);
  CHECK(outcome.metrics.at("clip_fraction_high") == 0);
  CHECK(outcome.metrics.at("ess_fraction") == Approx(1.0));
  CHECK(outcome.metrics.at("corrected_share") == 0);
  CHECK(outcome.metrics.at("kl") == 0);  // the reference is the initial policy
}

TEST_CASE("Learner: the order of the samples of a group does not matter",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Grpo();
  TrainBatch batch = RandomBatch({});
  const Outcome forward = TrainAlone(options, batch);
  for (TrainGroup& group : batch.groups) {
    std::reverse(group.sequences.begin(), group.sequences.end());
  }
  const Outcome backward = TrainAlone(options, batch);
  CHECK(Distance(forward.parameters, backward.parameters) < kSameGradient);
}

TEST_CASE("Learner: the same step twice gives the same bits", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Ppo();
  options.minibatches_per_epoch = 2;
  const TrainBatch batch = RandomBatch({});
  const Outcome first = TrainAlone(options, batch);
  const Outcome second = TrainAlone(options, batch);
  CHECK(first.parameters == second.parameters);
  CHECK(Timeless(first.metrics) == Timeless(second.metrics));
}

TEST_CASE("Learner: resuming from a checkpoint replays the same bits", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.optimizer.learning_rate = 1e-2;
  options.optimizer.critic_learning_rate = 1e-2;
  options.optimizer.adamw.epsilon = 1e-8;
  options.optimizer.max_grad_norm = 1.0;
  const std::string directory = CheckpointDirectory(dir.File("run"), 2);
  for (const NamedMethod& method : AllMethods()) {
    INFO(method.name);
    options.algorithm = method.algorithm;
    const auto batch = [&](int64_t step) {
      return RandomBatch({.step = step, .sampled = method.sampled});
    };
    REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> whole, MakeLone(options));
    for (int64_t step = 1; step <= 4; ++step) {
      REQUIRE_OK(whole->Update(batch(step)).status());
      if (step == 2) REQUIRE_OK(whole->SaveCheckpoint(directory));
    }
    LearnerOptions resume = options;
    resume.checkpoint_dir = directory;
    resume.resume_step = 2;
    REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> resumed, MakeLone(resume));
    CHECK(resumed->step() == 2);
    for (int64_t step = 3; step <= 4; ++step) REQUIRE_OK(resumed->Update(batch(step)).status());
    CHECK(Parameters(*resumed) == Parameters(*whole));
  }
}

TEST_CASE("Learner: an empty or fully masked batch makes no update and is counted",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  for (const NamedMethod& method : AllMethods()) {
    INFO(method.name);
    options.algorithm = method.algorithm;
    REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
    const std::vector<float> before = Parameters(*learner);
    TrainBatch nothing;
    nothing.step = 1;
    REQUIRE_OK_AND_ASSIGN(const StepReport empty, learner->Update(nothing));
    CHECK(empty.optimizer_updates == 0);
    CHECK(empty.metrics.at("updates_skipped") == 1);
    TrainBatch masked = RandomBatch({.step = 2, .sampled = method.sampled});
    for (TrainGroup& group : masked.groups) {
      for (TrainSequence& sequence : group.sequences) {
        std::fill(sequence.trains.begin(), sequence.trains.end(), 0);
      }
    }
    REQUIRE_OK_AND_ASSIGN(const StepReport report, learner->Update(masked));
    CHECK(report.optimizer_updates == 0);
    for (const auto& [name, value] : report.metrics) {
      INFO(name);
      CHECK(std::isfinite(value));
    }
    CHECK(Parameters(*learner) == before);
    CHECK(learner->step() == 2);
  }
}

TEST_CASE("Learner: equal rewards move nothing", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = {.advantage = "group_norm", .loss = "ppo_clip", .aggregation = "token_mean"};
  TrainBatch batch = RandomBatch({});
  for (TrainGroup& group : batch.groups) {
    for (TrainSequence& sequence : group.sequences) sequence.reward = 0.3;
  }
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  const std::vector<float> before = Parameters(*learner);
  REQUIRE_OK_AND_ASSIGN(const StepReport report, learner->Update(batch));
  CHECK(report.metrics.at("groups_equal_reward") == 5);
  CHECK(report.metrics.at("grad_norm") == 0);
  CHECK(Parameters(*learner) == before);
}

TEST_CASE("Learner: while the critic warms up the policy stands still", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Ppo();
  options.critic_warmup_steps = 1;
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  const std::vector<float> before = Parameters(*learner);
  REQUIRE_OK_AND_ASSIGN(const StepReport first, learner->Update(RandomBatch({.step = 1})));
  CHECK(first.optimizer_updates == 1);
  CHECK(first.metrics.at("critic_grad_norm") > 0);
  CHECK(first.metrics.count("logprob_gap_max") == 1);
  CHECK(Parameters(*learner) == before);
  REQUIRE_OK_AND_ASSIGN(const StepReport second, learner->Update(RandomBatch({.step = 2})));
  CHECK(Parameters(*learner) != before);
  CHECK(second.metrics.at("value_mean") != 0);  // the head was zero at first
}

TEST_CASE("Learner: a loss that is not finite stops with step and metric",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = {.advantage = "group_mean", .loss = "reinforce", .aggregation = "token_mean"};
  TrainBatch batch = RandomBatch({});
  batch.groups[0].sequences[0].reward = 1e300;
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  const std::vector<float> before = Parameters(*learner);
  const Status status = learner->Update(batch).status();
  CHECK(status.code() == StatusCode::kDataLoss);
  CHECK_THAT(Message(status), Catch::Contains("step 1") && Catch::Contains("grad_norm"));
  CHECK(Parameters(*learner) == before);
}

TEST_CASE("Learner: a batch that does not fit is refused with prompt and sample",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Grpo();
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  const auto refused = [&](const TrainBatch& batch, const std::string& why) {
    const Status status = learner->Update(batch).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK_THAT(Message(status), Catch::Contains(why));
  };
  refused(RandomBatch({.step = 2}), "batch of step 2 after step 0");
  TrainBatch batch = RandomBatch({});
  batch.num_groups = 6;
  refused(batch, "has 5 groups");
  batch = RandomBatch({});
  batch.groups[2].sequences[1].token_ids.back() = 32;
  refused(batch, "prompt 2, sample 1: token 32");
  batch = RandomBatch({});
  batch.groups[0].sequences[0].behavior_logprobs.pop_back();
  refused(batch, "behaviour log-probabilities");
  batch = RandomBatch({});
  batch.groups[0].sequences[0].reward = std::numeric_limits<double>::quiet_NaN();
  refused(batch, "reward is not finite");
}

TEST_CASE("Learner: training lowers the loss of every objective", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.optimizer.learning_rate = 1e-2;
  options.optimizer.adamw.epsilon = 1e-8;
  for (const NamedMethod& method :
       {NamedMethod{"dpo", Dpo(), false}, NamedMethod{"sft", Sft(), false}}) {
    INFO(method.name);
    options.algorithm = method.algorithm;
    REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
    double first = 0;
    double last = 0;
    for (int64_t step = 1; step <= 15; ++step) {
      TrainBatch batch = RandomBatch({.sampled = false});
      batch.step = step;
      REQUIRE_OK_AND_ASSIGN(const StepReport report, learner->Update(batch));
      (step == 1 ? first : last) = report.metrics.at("loss");
      if (step == 15 && method.name == "dpo") {
        CHECK(report.metrics.at("reward_accuracy") == 1.0);
      }
    }
    CHECK(last < 0.6 * first);
  }
}

TEST_CASE("Learner: policy gradient raises what is rewarded", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = {
      .advantage = "leave_one_out", .loss = "reinforce", .aggregation = "seq_mean_token_sum"};
  options.optimizer.learning_rate = 1e-2;
  options.optimizer.adamw.epsilon = 1e-8;
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  // The same samples every step: the objective is the negated gain over them.
  double first = 0;
  double last = 0;
  for (int64_t step = 1; step <= 10; ++step) {
    TrainBatch batch = RandomBatch({});
    batch.step = step;
    REQUIRE_OK_AND_ASSIGN(const StepReport report, learner->Update(batch));
    (step == 1 ? first : last) = report.metrics.at("policy_loss");
  }
  CHECK(last < first - 0.1);
}

TEST_CASE("Learner: a peer that is gone breaks the step, not the process",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Grpo();
  const TrainBatch batch = RandomBatch({});
  const SystemClock clock;
  std::vector<Status> statuses(2);
  testing::RunRanks(2, [&](std::unique_ptr<Communicator> communicator) {
    const int rank = communicator->rank();
    if (rank == 1) return;  // dies before its first collective
    auto learner = MakeLearner(
        options,
        [&]() -> StatusOr<std::unique_ptr<Communicator>> { return std::move(communicator); }, clock,
        {});
    statuses[rank] =
        learner.ok() ? (*learner)->Update(ShareOf(batch, rank, 2)).status() : learner.status();
  });
  CHECK(statuses[0].code() == StatusCode::kUnavailable);
}

// --- Checkpoints ----------------------------------------------------------------------------

TEST_CASE("Checkpoint: a truncated or changed file is refused by name", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = Ppo();
  const std::string directory = CheckpointDirectory(dir.File("run"), 0);
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  options.checkpoint_dir = directory;
  for (const std::string name :
       {"model.safetensors", "optimizer.safetensors", "critic/model.safetensors", "config.json"}) {
    INFO(name);
    REQUIRE_OK(learner->SaveCheckpoint(directory));
    REQUIRE_OK(MakeLone(options).status());
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    const Status truncated = MakeLone(options).status();
    CHECK(truncated.code() == StatusCode::kDataLoss);
    CHECK_THAT(Message(truncated), Catch::Contains(path.string()));
    REQUIRE_OK(learner->SaveCheckpoint(directory));
    {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(-2, std::ios::end);
      file.put('?');
    }
    const Status changed = MakeLone(options).status();
    CHECK(changed.code() == StatusCode::kDataLoss);
    CHECK_THAT(Message(changed), Catch::Contains(path.string()));
    std::filesystem::remove(path);
    CHECK(MakeLone(options).status().code() == StatusCode::kDataLoss);
  }
}

TEST_CASE("Checkpoint: of another step, or none at all, is refused", "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.checkpoint_dir = dir.File("run/checkpoints/step_3");
  options.resume_step = 3;
  CHECK(MakeLone(options).status().code() == StatusCode::kNotFound);
  LearnerOptions fresh = options;
  fresh.checkpoint_dir.clear();
  fresh.resume_step = 0;
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(fresh));
  REQUIRE_OK(learner->SaveCheckpoint(options.checkpoint_dir));
  CHECK_THAT(Message(MakeLone(options).status()), Catch::Contains("is of step 0, not 3"));
}

TEST_CASE("Checkpoint: the model directory carries the tokenizer", "[unit][trainer][torch]") {
  const TempDir dir;
  const LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  std::ofstream(options.model_path + "/tokenizer.json") << "{}";
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  const std::string final_dir = dir.File("run/final");
  for (int round = 0; round < 2; ++round) {  // the second replaces the first
    REQUIRE_OK(learner->SaveModel(final_dir));
    CHECK(std::filesystem::exists(final_dir + "/tokenizer.json"));
    CHECK(std::filesystem::exists(final_dir + "/model.safetensors"));
  }
  // Nothing temporary is left.
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path() / "run"), {}) == 1);
}

TEST_CASE("Checkpoint: a failed write leaves the old one", "[unit][trainer][torch]") {
  const TempDir dir;
  const LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Learner> learner, MakeLone(options));
  std::ofstream(dir.File("file")) << "not a directory";
  const Status status = learner->SaveCheckpoint(dir.File("file") + "/step_1");
  CHECK_FALSE(status.ok());
  CHECK_THAT(Message(status), Catch::Contains(dir.File("file")));
}

TEST_CASE("Retention: the newest stay, later attempts and strangers too",
          "[unit][trainer][torch]") {
  const TempDir dir;
  const std::string run = dir.File("run");
  const auto root = std::filesystem::path(run) / "checkpoints";
  for (const char* name :
       {"step_2", "step_4", "step_6", "step_10", "step_12", "step_4.tmp-99", "step_x", "notes"}) {
    std::filesystem::create_directories(root / name);
  }
  REQUIRE_OK(RemoveOldCheckpoints(run, 10, 2));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    left.push_back(entry.path().filename().string());
  }
  std::sort(left.begin(), left.end());
  CHECK(left == std::vector<std::string>{"notes", "step_10", "step_12", "step_6", "step_x"});
}

}  // namespace
}  // namespace rollcall
