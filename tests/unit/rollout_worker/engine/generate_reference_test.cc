// Greedy decoding of the engine, and beam search, against transformers' generate on a random model.
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <nlohmann/json.hpp>

#include "rollout_worker/engine/engine.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/sampler/beam_search.h"
#include "services/model/decoder/decoder.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

const std::vector<int32_t> kStops = {0, 7};

// Logits of the last token of a sequence.
std::vector<float> LastLogits(const ModelWeights& weights, const std::vector<int32_t>& tokens) {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const auto size = static_cast<int32_t>(tokens.size());
  const auto attention = MakePackedAttention(weights.config, {0, size});
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, nullptr, tokens, positions, *attention));
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits,
                        Logits(weights, nullptr, hidden_NE.narrow(0, size - 1, 1)));
  const float* data = logits.const_data_ptr<float>();
  return {data, data + weights.config.vocab_size};
}

std::vector<BeamSearch::Finished> Search(const ModelWeights& weights,
                                         const std::vector<int32_t>& prompt,
                                         const BeamOptions& options) {
  REQUIRE_OK(CheckBeamOptions(options));
  BeamSearch search(options, weights.config.vocab_size);
  while (!search.is_done()) {
    std::vector<std::vector<float>> rows;
    std::vector<std::span<const float>> spans;
    for (const BeamSearch::Beam& beam : search.live()) {
      std::vector<int32_t> tokens = prompt;
      tokens.insert(tokens.end(), beam.tokens.begin(), beam.tokens.end());
      rows.push_back(LastLogits(weights, tokens));
    }
    for (const std::vector<float>& row : rows) spans.emplace_back(row);
    REQUIRE_OK(search.Step(spans));
  }
  return search.TakeBest();
}

CompletedSample Greedy(const ModelWeights& weights, const std::vector<int32_t>& prompt,
                       int32_t max_new_tokens) {
  const std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  const SystemClock clock;
  EngineOptions options;
  options.kv_cache_bytes = 1 << 24;
  REQUIRE_OK_AND_ASSIGN(const std::unique_ptr<Engine> engine,
                        Engine::Create(options, weights.config, EngineMetrics(*metrics), clock));
  std::vector<std::byte> snapshot(static_cast<size_t>(weights.arena.numel()) * sizeof(float));
  std::memcpy(snapshot.data(), weights.arena.const_data_ptr<float>(), snapshot.size());
  REQUIRE_OK_AND_ASSIGN(const auto model,
                        BuildRunnableModel(weights.config, weights.layout, std::move(snapshot)));
  engine->AddModel(1, 5, model);
  GroupRequest request;
  request.group_id = 1;
  request.model = 1;
  request.prompt_token_ids = prompt;
  request.stream_keys = {3};
  request.law.temperature = 0;
  request.max_new_tokens = max_new_tokens;
  request.stop_token_ids = kStops;
  request.wants_prompt_logprobs = true;
  REQUIRE_OK(engine->AddGroup(request));
  while (engine->has_work()) {
    for (const CompletedSample& sample : engine->Step().completed) return sample;
  }
  FAIL("the group did not end");
  return {};
}

}  // namespace

TEST_CASE("Generate: greedy and beam search are transformers', token by token",
          "[unit][engine][torch][python]") {
  if (!testing::HasPython("torch, transformers")) return;
  const testing::TempDir dir;
  const std::string model = dir.File("model");
  REQUIRE(testing::RunPython("tests/unit/rollout_worker/engine/reference_generate.py", model) == 0);
  REQUIRE_OK_AND_ASSIGN(const ModelWeights weights,
                        LoadWeights(model, Head::kLanguageModel, Gradients::kNone));
  std::ifstream file(model + "/expected.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  int num_stopped = 0;
  for (const nlohmann::json& item : cases) {
    const auto prompt = item["prompt"].get<std::vector<int32_t>>();
    const auto sequences = item["sequences"].get<std::vector<std::vector<int32_t>>>();
    const int32_t max_new_tokens = item["max_new_tokens"];
    INFO("beams " << item["num_beams"] << " penalty " << item["length_penalty"] << " early "
                  << item["early_stopping"] << " prompt of " << prompt.size());
    for (const auto& sequence : sequences) {
      num_stopped += static_cast<int32_t>(sequence.size()) < max_new_tokens ? 1 : 0;
    }
    if (item["num_beams"] == 1) {
      const CompletedSample sample = Greedy(weights, prompt, max_new_tokens);
      CHECK(sample.token_ids == sequences[0]);
      const auto expected = item["prompt_logprobs"].get<std::vector<double>>();
      REQUIRE(sample.prompt.logprobs.size() == expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        CHECK(sample.prompt.logprobs[i] == Approx(expected[i]).margin(1e-4));
      }
      continue;
    }
    const std::string early = item["early_stopping"];
    const auto best =
        Search(weights, prompt,
               {.num_beams = item["num_beams"],
                .length_penalty = item["length_penalty"],
                .early_stopping = early == "true"    ? BeamOptions::EarlyStopping::kAtOnce
                                  : early == "never" ? BeamOptions::EarlyStopping::kNever
                                                     : BeamOptions::EarlyStopping::kHeuristic,
                .max_new_tokens = max_new_tokens,
                .stop_token_ids = kStops});
    REQUIRE(best.size() == sequences.size());
    for (size_t i = 0; i < best.size(); ++i) {
      CHECK(best[i].tokens == sequences[i]);
      CHECK(best[i].score == Approx(item["scores"][i].get<double>()).epsilon(1e-4).margin(1e-4));
    }
  }
  CHECK(num_stopped > 10);
}

}  // namespace rollcall
