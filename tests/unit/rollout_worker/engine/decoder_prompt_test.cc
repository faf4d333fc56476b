// Log-probabilities of prompts under a small real model are those of the packed forward pass.
#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "services/base/runtime/random.h"
#include "services/model/decoder/decoder.h"
#include "tests/unit/rollout_worker/engine/decoder_engine.h"

namespace rollcall {
namespace {

using testing::DecoderEngine;
using testing::RandomWeights;
using testing::SmallConfig;

// As the learner computes them: whole sequences side by side, no cache.
std::vector<std::vector<float>> PackedLogprobs(const ModelWeights& weights,
                                               const std::vector<GroupRequest>& groups) {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<int32_t> positions;
  std::vector<int32_t> starts = {0};
  for (const GroupRequest& group : groups) {
    const std::vector<int32_t>& prompt = group.prompt_token_ids;
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    targets.insert(targets.end(), prompt.begin() + 1, prompt.end());
    targets.push_back(0);
    positions.resize(tokens.size());
    std::iota(positions.begin() + starts.back(), positions.end(), 0);
    starts.push_back(static_cast<int32_t>(tokens.size()));
  }
  const auto attention = MakePackedAttention(weights.config, starts);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, nullptr, tokens, positions, *attention));
  REQUIRE_OK_AND_ASSIGN(const TokenLogprobs computed,
                        ComputeTokenLogprobs(weights, nullptr, hidden_NE, targets, 1.0));
  const float* data = computed.logprobs_N.const_data_ptr<float>();
  std::vector<std::vector<float>> logprobs;
  for (size_t g = 0; g < groups.size(); ++g) {
    logprobs.emplace_back(data + starts[g], data + starts[g + 1] - 1);
  }
  return logprobs;
}

GroupRequest ScoredGroup(uint64_t id, size_t num_prompt, int64_t vocab_size) {
  CounterRandom random(id + 7);
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(
        static_cast<int32_t>(random.Below(static_cast<uint64_t>(vocab_size))));
  }
  group.stream_keys = {id, id + 1000};
  // The law is that of what is sampled, not of the prompt.
  group.law = {.temperature = 0.6, .top_k = 5, .repetition_penalty = 1.3};
  group.max_new_tokens = 6;
  group.wants_prompt_logprobs = true;
  return group;
}

}  // namespace

TEST_CASE("Engine: log-probabilities of prompts are the packed forward's, bit for bit",
          "[unit][engine][torch]") {
  ModelWeights weights = RandomWeights(4);
  weights.config.precision = GENERATE(Precision::kFloat32, Precision::kBFloat16);
  std::vector<GroupRequest> groups;
  CounterRandom random(2);
  for (uint64_t id = 0; id < 10; ++id) {
    groups.push_back(ScoredGroup(id, 1 + random.Below(100), weights.config.vocab_size));
    groups.back().num_prompt_top_logprobs = id % 2 == 0 ? 3 : 0;
  }
  const auto expected = PackedLogprobs(weights, groups);
  struct Setting {
    int32_t max_sequences, max_batched_tokens, block_size, num_tokens;
  };
  for (const Setting& setting :
       {Setting{128, 2048, 16, 4096}, Setting{1, 5, 16, 4096}, Setting{8, 17, 4, 4096},
        Setting{16, 64, 4, 140}, Setting{4, 1, 16, 144}}) {
    EngineOptions options;
    options.block_size = setting.block_size;
    options.kv_cache_bytes = setting.num_tokens * KvBlockBytes(weights.config, 1);
    options.scheduler = {.max_sequences = setting.max_sequences,
                         .max_batched_tokens = setting.max_batched_tokens};
    DecoderEngine rig(options, weights);
    for (const GroupRequest& group : groups) REQUIRE_OK(rig.engine->AddGroup(group));
    const auto results = rig.RunAll();
    for (size_t g = 0; g < groups.size(); ++g) {
      const PromptScores& prompt = results.at({g, 0}).prompt;
      REQUIRE(prompt.logprobs == expected[g]);
      CHECK(prompt.top_logprobs.size() == (g % 2 == 0 ? expected[g].size() : 0));
      for (size_t i = 0; i < prompt.top_logprobs.size(); ++i) {
        const auto& top = prompt.top_logprobs[i];
        REQUIRE(top.size() == 3);
        CHECK((prompt.ranks[i] == 1) == (prompt.logprobs[i] == top[0].logprob));
        if (prompt.ranks[i] <= 3) {
          CHECK(top[static_cast<size_t>(prompt.ranks[i]) - 1].logprob == prompt.logprobs[i]);
        }
      }
    }
  }
}

TEST_CASE("Engine: log-probabilities of a long prompt are computed in pieces of bounded memory",
          "[unit][engine][torch]") {
  ModelConfig config = SmallConfig();
  config.vocab_size = 50'001;
  const auto at_once = ScoredRowsAtOnce(config.vocab_size);
  REQUIRE(at_once == 83);
  const ModelWeights weights = RandomWeights(6, config);
  // 126 rows: two pieces, the second one shorter.
  const GroupRequest group = ScoredGroup(1, 127, config.vocab_size);
  DecoderEngine rig({.kv_cache_bytes = 1 << 24}, weights);
  REQUIRE_OK(rig.engine->AddGroup(group));
  CHECK(rig.RunAll().at({1, 0}).prompt.logprobs == PackedLogprobs(weights, {group})[0]);
}

}  // namespace rollcall
