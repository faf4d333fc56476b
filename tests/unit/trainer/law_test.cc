// The learner under the sampler's law: kept sets, penalties and bias.
#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "rollout_worker/sampler/sampler.h"
#include "services/base/runtime/random.h"
#include "services/model/decoder/decoder.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"
#include "tests/unit/trainer/learner_fixture.h"
#include "tests/unit/trainer/thread_group.h"
#include "trainer/learner/learner.h"

namespace rollcall {
namespace {

using testing::GradientOptions;
using testing::RandomBatch;
using testing::TempDir;
using testing::WriteTinyModel;

StatusOr<StepReport> Train(const LearnerOptions& options, const TrainBatch& batch) {
  static const SystemClock clock;
  ROLLCALL_ASSIGN_OR_RETURN(const std::unique_ptr<Learner> learner,
                            MakeLearner(options,
                                        []() -> StatusOr<std::unique_ptr<Communicator>> {
                                          return testing::MakeLoneCommunicator();
                                        },
                                        clock, {}));
  return learner->Update(batch);
}

// Samples the completions of the batch anew, one whole forward pass per token.
void Sample(const ModelWeights& weights, const SamplingLaw& law, TrainBatch* batch) {
  const at::NoGradGuard no_grad;
  Sampler sampler(32);
  const CounterRandom random(5);
  uint64_t draws = 0;
  for (TrainGroup& group : batch->groups) {
    for (TrainSequence& sequence : group.sequences) {
      const auto begin = static_cast<size_t>(
          std::find(sequence.trains.begin(), sequence.trains.end(), 1) - sequence.trains.begin());
      SampledRun run{.begin = static_cast<int64_t>(begin),
                     .end = static_cast<int64_t>(sequence.token_ids.size())};
      KeptSetWriter writer;
      for (size_t t = begin; t < sequence.token_ids.size(); ++t) {
        const std::span<const int32_t> before = std::span(sequence.token_ids).first(t);
        std::vector<int32_t> positions(t);
        std::iota(positions.begin(), positions.end(), 0);
        const auto attention = MakePackedAttention(weights.config, {0, static_cast<int32_t>(t)});
        REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                              DecoderHidden(weights, nullptr, before, positions, *attention));
        REQUIRE_OK_AND_ASSIGN(
            const at::Tensor logits,
            Logits(weights, nullptr, hidden_NE.narrow(0, static_cast<int64_t>(t) - 1, 1)));
        REQUIRE_OK(sampler.SetRow({logits.const_data_ptr<float>(), 32}, law,
                                  {.tokens = {before.first(begin), before.subspan(begin)}}));
        const SampledToken token = sampler.Draw(random.UniformAt(draws++));
        sequence.token_ids[t] = token.token;
        sequence.trains[t] = 1;
        sequence.behavior_logprobs[t] = token.logprob;
        REQUIRE_OK(writer.Append(sampler.kept(), 32, &run.kept_sets));
      }
      if (run.end > run.begin) sequence.runs = {run};
    }
  }
  REQUIRE(draws > 30);
}

}  // namespace

TEST_CASE("Learner: on-policy samples of a law that truncates and penalizes have no gap",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = {.advantage = "group_norm",
                       .loss = "ppo_clip",
                       .aggregation = "seq_mean_token_mean",
                       .correction = "token_truncate",
                       .kl_placement = KlPlacement::kLoss,
                       .kl_estimator = "k3",
                       .kl_coefficient = 0.04};
  options.max_tokens_per_microbatch = 30;
  REQUIRE_OK_AND_ASSIGN(const ModelWeights weights,
                        LoadWeights(options.model_path, Head::kLanguageModel, Gradients::kNone));
  for (const SamplingLaw& law :
       {SamplingLaw{.top_p = 0.9}, SamplingLaw{.top_k = 20}, SamplingLaw{.min_p = 0.9},
        SamplingLaw{.repetition_penalty = 1.3}, SamplingLaw{.banned_token_ids = {4, 5}},
        SamplingLaw{.temperature = 0.8,
                    .top_p = 0.9,
                    .top_k = 20,
                    .min_p = 0.02,
                    .repetition_penalty = 1.3,
                    .presence_penalty = 0.4,
                    .frequency_penalty = 0.2,
                    .logit_bias = {{3, 0.7F}}}}) {
    TrainBatch batch = RandomBatch({});
    Sample(weights, law, &batch);
    options.temperature = law.temperature;
    options.law = law;
    REQUIRE_OK_AND_ASSIGN(const StepReport report, Train(options, batch));
    CHECK(report.metrics.at("logprob_gap_max") == 0);
    CHECK(report.metrics.at("ratio_mean") == 1);
    CHECK(report.metrics.at("kl") == 0);  // the reference is under the law, too
    CHECK(report.metrics.at("grad_norm") > 0);

    // Without the law there is a gap: what was measured is the law.
    options.law = {};
    for (TrainGroup& group : batch.groups) {
      for (TrainSequence& sequence : group.sequences) {
        for (SampledRun& run : sequence.runs) run.kept_sets.clear();
      }
    }
    REQUIRE_OK_AND_ASSIGN(const StepReport plain, Train(options, batch));
    CHECK(plain.metrics.at("logprob_gap_max") > 0.001);
  }
}

TEST_CASE("Learner: kept sets that do not fit the tokens are refused by name",
          "[unit][trainer][torch]") {
  const TempDir dir;
  LearnerOptions options = GradientOptions(WriteTinyModel(dir));
  options.algorithm = {.advantage = "group_norm", .loss = "ppo_clip"};
  TrainBatch batch = RandomBatch({});
  TrainSequence& sequence = batch.groups[0].sequences[0];
  const auto size = static_cast<int64_t>(sequence.token_ids.size());
  const auto refusal = [&](const SampledRun& run) {
    sequence.runs = {run};
    return Message(Train(options, batch).status());
  };
  const char other = sequence.token_ids.back() == 9 ? 10 : 9;
  CHECK(refusal({.begin = size - 1, .end = size, .kept_sets = {'\x05', other}})
            .find("prompt 0, sample 0: token") != std::string::npos);
  CHECK(refusal({.begin = size - 1, .end = size, .kept_sets = "\x01"}).find("broken") !=
        std::string::npos);
  CHECK(refusal({.begin = size, .end = size + 1}).find("does not fit") != std::string::npos);
}

}  // namespace rollcall
