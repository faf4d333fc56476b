// One step of the learner against one step of transformers and torch autograd.

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <nlohmann/json.hpp>

#include "tests/support/catch_torch.h"
#include "tests/unit/trainer/learner_fixture.h"
#include "tests/unit/trainer/thread_group.h"
#include "trainer/learner/learner.h"

namespace rollcall {
namespace {

using nlohmann::json;
using testing::GradientOptions;
using testing::Parameters;
using testing::RandomBatch;
using testing::TempDir;
using testing::WriteTinyModel;

std::string Python() {
  const char* python = std::getenv("ROLLCALL_PYTHON");
  return python == nullptr ? "python3" : python;
}

bool HasTransformers() {
  return std::system((Python() + " -c 'import transformers, torch' >/dev/null 2>&1").c_str()) == 0;
}

json RunReference(const std::string& request_path) {
  const std::string command =
      Python() + " tests/unit/trainer/reference_step.py " + request_path + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  std::array<char, 65536> buffer;
  while (const size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), got);
  }
  REQUIRE(pclose(pipe) == 0);
  return json::parse(output);
}

json GroupsOf(const TrainBatch& batch) {
  json groups = json::array();
  for (const TrainGroup& group : batch.groups) {
    json rows = json::array();
    for (const TrainSequence& sequence : group.sequences) {
      rows.push_back({{"tokens", sequence.token_ids},
                      {"trains", sequence.trains},
                      {"behavior", sequence.behavior_logprobs},
                      {"reward", sequence.reward.value_or(0.0)}});
    }
    groups.push_back(std::move(rows));
  }
  return groups;
}

// A learner whose policy is `policy_path` and whose reference is options.model_path.
std::unique_ptr<Learner> MakeWithReference(LearnerOptions options, const std::string& policy_path,
                                           const std::string& checkpoint) {
  static const SystemClock clock;
  const auto lone = []() -> StatusOr<std::unique_ptr<Communicator>> {
    return testing::MakeLoneCommunicator();
  };
  LearnerOptions start = options;
  start.model_path = policy_path;
  REQUIRE_OK_AND_ASSIGN(const auto writer, MakeLearner(start, lone, clock, {}));
  REQUIRE_OK(writer->SaveCheckpoint(checkpoint));
  options.checkpoint_dir = checkpoint;
  REQUIRE_OK_AND_ASSIGN(auto learner, MakeLearner(options, lone, clock, {}));
  return learner;
}

struct StepResult {
  double loss = 0;
  std::vector<double> gradient;  // of the arena
  std::vector<TensorLayout> layout;
};

// Reads the gradient back from what the update did: g / (|g| + 1) was subtracted.
StepResult TrainOneStep(Learner& learner, const TrainBatch& batch) {
  const std::vector<float> before = Parameters(learner);
  REQUIRE_OK_AND_ASSIGN(const StepReport report, learner.Update(batch));
  const std::vector<float> after = Parameters(learner);
  StepResult result;
  result.loss = report.metrics.at("loss");
  result.layout = learner.layout();
  for (size_t i = 0; i < before.size(); ++i) {
    const double moved = static_cast<double>(before[i]) - after[i];
    result.gradient.push_back(moved / (1.0 - std::abs(moved)));
  }
  return result;
}

void Compare(const StepResult& got, const json& want) {
  CHECK(got.loss == Approx(want["loss"].get<double>()).epsilon(1e-5));
  for (const TensorLayout& tensor : got.layout) {
    INFO(tensor.name);
    const auto gradient = want["gradients"].at(tensor.name).get<std::vector<double>>();
    REQUIRE(gradient.size() == tensor.size_bytes / sizeof(float));
    const size_t first = tensor.offset_bytes / sizeof(float);
    double largest = 0;
    double worst = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      largest = std::max(largest, std::abs(gradient[i]));
      worst = std::max(worst, std::abs(gradient[i] - got.gradient[first + i]));
    }
    CHECK(largest > 0);
    // float32 against float64, read back from weights near one where the norms are.
    CHECK(worst < 1e-4 * largest + 3e-7);
  }
}

TEST_CASE("Reference: one GRPO and one DPO step agree with transformers",
          "[unit][trainer][torch]") {
  if (!HasTransformers()) {
    std::cout << "[skipped] " << Python() << " has no transformers\n";
    return;
  }
  const TempDir dir;
  const std::string reference = WriteTinyModel(dir, "reference", 1);
  const std::string policy = WriteTinyModel(dir, "policy", 2);

  LearnerOptions grpo = GradientOptions(reference);
  grpo.temperature = 0.8;
  grpo.max_tokens_per_microbatch = 50;
  grpo.algorithm = {.advantage = "group_norm",
                    .loss = "ppo_clip",
                    .aggregation = "seq_mean_token_mean",
                    .correction = "token_truncate",
                    .kl_placement = KlPlacement::kLoss,
                    .kl_estimator = "k3",
                    .kl_coefficient = 0.5,
                    .correction_cap = 1.1};
  const TrainBatch samples = RandomBatch({});
  LearnerOptions dpo = GradientOptions(reference);
  dpo.max_tokens_per_microbatch = 50;
  dpo.algorithm = {.advantage = "none",
                   .loss = "dpo",
                   .aggregation = "item_mean",
                   .pair_builder = "as_given",
                   .beta = 0.7};
  const TrainBatch pairs = RandomBatch({.samples_per_group = 2, .sampled = false, .seed = 5});

  const json requests = {
      {{"method", "grpo"},
       {"policy", policy},
       {"reference", reference},
       {"groups", GroupsOf(samples)},
       {"options", {{"temperature", 0.8}, {"cap", 1.1}, {"clip", 0.2}, {"kl", 0.5}}}},
      {{"method", "dpo"},
       {"policy", policy},
       {"reference", reference},
       {"groups", GroupsOf(pairs)},
       {"options", {{"beta", 0.7}}}}};
  std::ofstream(dir.File("request.json")) << requests.dump();
  const json answers = RunReference(dir.File("request.json"));

  Compare(TrainOneStep(*MakeWithReference(grpo, policy, dir.File("grpo/step_0")), samples),
          answers[0]);
  Compare(TrainOneStep(*MakeWithReference(dpo, policy, dir.File("dpo/step_0")), pairs), answers[1]);
}

}  // namespace
}  // namespace rollcall
