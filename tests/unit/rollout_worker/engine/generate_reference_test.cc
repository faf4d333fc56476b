// Greedy decoding and beam search of the engine against transformers' generate on a random model.
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/python.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/rollout_worker/engine/decoder_engine.h"

namespace rollcall {
namespace {

using testing::DecoderEngine;

const std::vector<int32_t> kStops = {0, 7};

BeamOptions::EarlyStopping EarlyStopping(const std::string& name) {
  if (name == "true") return BeamOptions::EarlyStopping::kAtOnce;
  return name == "never" ? BeamOptions::EarlyStopping::kNever
                         : BeamOptions::EarlyStopping::kHeuristic;
}

GroupRequest MakeRequest(uint64_t id, const nlohmann::json& item) {
  GroupRequest request;
  request.group_id = id;
  request.model = 1;
  request.prompt_token_ids = item["prompt"].get<std::vector<int32_t>>();
  request.max_new_tokens = item["max_new_tokens"];
  request.stop_token_ids = kStops;
  request.wants_prompt_logprobs = true;
  const int32_t num_beams = item["num_beams"];
  for (int32_t i = 0; i < num_beams; ++i) request.stream_keys.push_back(static_cast<uint64_t>(i));
  if (num_beams == 1) {
    request.law.temperature = 0;
  } else {
    request.beam_search = BeamOptions{.num_beams = num_beams,
                                      .length_penalty = item["length_penalty"],
                                      .early_stopping = EarlyStopping(item["early_stopping"])};
  }
  return request;
}

void CheckSample(const CompletedSample& sample, const nlohmann::json& item, size_t i) {
  CHECK(sample.token_ids == item["sequences"][i].get<std::vector<int32_t>>());
  CHECK(sample.beam_score.has_value() == (item["num_beams"] > 1));
  if (sample.beam_score) {
    CHECK(*sample.beam_score == Approx(item["scores"][i].get<double>()).epsilon(1e-4).margin(1e-4));
  }
  if (i > 0) return;
  const auto expected = item["prompt_logprobs"].get<std::vector<double>>();
  REQUIRE(sample.prompt.logprobs.size() == expected.size());
  for (size_t k = 0; k < expected.size(); ++k) {
    CHECK(sample.prompt.logprobs[k] == Approx(expected[k]).margin(1e-4));
  }
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
    for (const auto& sequence : item["sequences"]) {
      num_stopped += sequence.size() < item["max_new_tokens"] ? 1 : 0;
    }
  }
  CHECK(num_stopped > 10);
  struct Setting {
    int32_t max_sequences, max_batched_tokens, block_size, num_tokens;
    Preemption preemption;
  };
  // All at once: with room for everything, with one beam at a time, and in pools that hold little
  // more than one sequence, so that beams lose their blocks all the time.
  for (const Setting& setting :
       {Setting{128, 2048, 16, 8192, Preemption::kAuto}, Setting{2, 3, 16, 8192, Preemption::kAuto},
        Setting{128, 64, 4, 48, Preemption::kRecompute},
        Setting{16, 9, 4, 60, Preemption::kSwap}}) {
    INFO("batches of " << setting.max_batched_tokens << ", memory for " << setting.num_tokens);
    EngineOptions options;
    options.block_size = setting.block_size;
    options.kv_cache_bytes = setting.num_tokens * KvBlockBytes(weights.config, 1);
    options.scheduler = {.max_sequences = setting.max_sequences,
                         .max_batched_tokens = setting.max_batched_tokens,
                         .preemption = setting.preemption};
    DecoderEngine rig(options, weights);
    for (size_t id = 0; id < cases.size(); ++id) {
      REQUIRE_OK(rig.engine->AddGroup(MakeRequest(id, cases[id])));
    }
    const auto results = rig.RunAll();
    for (size_t id = 0; id < cases.size(); ++id) {
      INFO(cases[id].dump());
      for (size_t i = 0; i < cases[id]["sequences"].size(); ++i) {
        CheckSample(results.at({id, static_cast<int32_t>(i)}), cases[id], i);
      }
    }
  }
}

}  // namespace rollcall
