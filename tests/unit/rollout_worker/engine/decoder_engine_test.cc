// The engine over a small real model: what was sampled is what the shared decoder says.
#include "tests/unit/rollout_worker/engine/decoder_engine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "services/base/runtime/random.h"
#include "services/grammar/regex.h"
#include "services/grammar/token_grammar.h"
#include "services/model/decoder/decoder.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::DecoderEngine;
using testing::RandomWeights;
using testing::Snapshot;

GroupRequest MakeGroup(uint64_t id, double temperature) {
  CounterRandom random(id + 100);
  GroupRequest group;
  group.group_id = id;
  group.model = 1;
  const size_t num_prompt = 1 + random.Below(45);
  for (size_t i = 0; i < num_prompt; ++i) {
    group.prompt_token_ids.push_back(static_cast<int32_t>(1 + random.Below(60)));
  }
  const size_t num_samples = 1 + random.Below(4);
  for (size_t i = 0; i < num_samples; ++i) group.stream_keys.push_back(50 * id + i);
  group.law.temperature = temperature;
  group.max_new_tokens = static_cast<int32_t>(1 + random.Below(40));
  group.stop_token_ids = {0};
  return group;
}

// log-probabilities of the completion as the learner computes them: whole sequence, no cache.
std::vector<float> LearnerLogprobs(const ModelWeights& weights, const GroupRequest& group,
                                   const CompletedSample& sample) {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> tokens = group.prompt_token_ids;
  tokens.insert(tokens.end(), sample.token_ids.begin(), sample.token_ids.end());
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const auto attention =
      MakePackedAttention(weights.config, {0, static_cast<int32_t>(tokens.size())});
  const auto hidden = DecoderHidden(weights, nullptr, tokens, positions, *attention);
  REQUIRE_OK(hidden.status());
  const auto num_prompt = static_cast<int64_t>(group.prompt_token_ids.size());
  const auto num_sampled = static_cast<int64_t>(sample.token_ids.size());
  const auto kept = KeptSets::Parse(sample.kept_sets, num_sampled, weights.config.vocab_size);
  REQUIRE_OK(kept.status());
  const auto laws = std::make_shared<RowLaws>();
  laws->law = group.law;
  for (int64_t n = 0; n < num_sampled; ++n) {
    laws->rows_N.push_back({.context = {group.prompt_token_ids,
                                        std::span(sample.token_ids).first(static_cast<size_t>(n))},
                            .kept = &*kept,
                            .number = n});
  }
  const auto result =
      ComputeTokenLogprobs(weights, nullptr, hidden->narrow(0, num_prompt - 1, num_sampled),
                           sample.token_ids, group.law.temperature, laws);
  REQUIRE_OK(result.status());
  const float* data = result->logprobs_N.const_data_ptr<float>();
  return {data, data + num_sampled};
}

// Every kind of law that is not just a temperature.
std::vector<SamplingLaw> Laws() {
  return {{.top_k = 20},
          {.temperature = 0.8, .top_p = 0.9},
          {.min_p = 0.05},
          {.repetition_penalty = 1.2},
          {.temperature = 0.9, .presence_penalty = 0.5, .frequency_penalty = 0.3},
          {.logit_bias = {{3, 2.0F}, {60, -4.0F}}},
          {.allowed_token_ids = {0, 5, 9, 11, 40}, .min_new_tokens = 4},
          {.temperature = 1.3,
           .top_p = 0.95,
           .top_k = 30,
           .min_p = 0.01,
           .repetition_penalty = 0.8,
           .presence_penalty = -0.2,
           .logit_bias = {{7, 1.0F}},
           .banned_token_ids = {8, 9},
           .min_new_tokens = 3}};
}

}  // namespace

TEST_CASE("Engine: behaviour log-probabilities are the learner's, bit for bit",
          "[unit][engine][torch]") {
  ModelWeights weights = RandomWeights(4);
  weights.config.precision = GENERATE(Precision::kFloat32, Precision::kBFloat16);
  std::vector<GroupRequest> groups;
  const std::vector<SamplingLaw> laws = Laws();
  for (uint64_t id = 0; id < 12; ++id) groups.push_back(MakeGroup(id, id % 2 == 0 ? 1.0 : 0.7));
  for (uint64_t id = 12; id < 12 + laws.size(); ++id) {
    groups.push_back(MakeGroup(id, 1.0));
    groups.back().law = laws[id - 12];
  }
  // Token t is the character '!' + t; 0 ends.
  std::vector<std::string> bytes(61);
  for (size_t t = 1; t < bytes.size(); ++t) bytes[t] = {static_cast<char>('!' + t)};
  auto automaton = CompileRegex("[A-D]{2,5}(-[0-9]+)*|%+");
  REQUIRE_OK(automaton.status());
  const std::vector<int32_t> stops = {0};
  const auto grammar = std::make_shared<const TokenGrammar>(
      *std::move(automaton), std::make_shared<const TokenTrie>(bytes), stops);
  const uint64_t first_grammar = groups.size();
  for (uint64_t id = first_grammar; id < first_grammar + 3; ++id) {
    groups.push_back(MakeGroup(id, 1.0));
    groups.back().grammar = grammar;
    if (id == first_grammar + 1) groups.back().law.top_p = 0.8;
  }
  for (GroupRequest& group : groups) group.wants_kept_sets = true;
  std::map<std::pair<uint64_t, int32_t>, CompletedSample> first;
  struct Setting {
    int32_t max_sequences, max_batched_tokens, block_size;
    int64_t kv_cache_bytes;
  };
  const int64_t token_bytes = KvBlockBytes(weights.config, 1);
  for (const Setting& setting :
       {Setting{128, 2048, 16, 1 << 24}, Setting{1, 5, 16, 1 << 24}, Setting{8, 17, 4, 1 << 24},
        Setting{16, 64, 4, 140 * token_bytes}, Setting{16, 2048, 16, 140 * token_bytes}}) {
    EngineOptions options;
    options.block_size = setting.block_size;
    options.kv_cache_bytes = setting.kv_cache_bytes;
    options.scheduler = {.max_sequences = setting.max_sequences,
                         .max_batched_tokens = setting.max_batched_tokens};
    DecoderEngine rig(options, weights);
    for (const GroupRequest& group : groups) REQUIRE_OK(rig.engine->AddGroup(group));
    const auto results = rig.RunAll();
    if (first.empty()) {
      for (const auto& [key, sample] : results) {
        CHECK(sample.behavior_logprobs == LearnerLogprobs(weights, groups[key.first], sample));
        CHECK(sample.policy_version == 5);
        if (groups[key.first].grammar == nullptr) continue;
        GrammarState state(grammar);
        for (const int32_t token : sample.token_ids) REQUIRE_OK(state.Advance(token));
        CHECK((sample.token_ids.back() == 0) == (sample.end == CompletionEnd::kStop));
      }
      first = results;
      continue;
    }
    REQUIRE(results.size() == first.size());
    for (const auto& [key, sample] : results) {
      REQUIRE(sample.token_ids == first.at(key).token_ids);
      REQUIRE(sample.behavior_logprobs == first.at(key).behavior_logprobs);
      REQUIRE(sample.kept_sets == first.at(key).kept_sets);
    }
  }
}

TEST_CASE("BuildRunnableModel: a snapshot of another model is refused by name",
          "[unit][runner][torch]") {
  const ModelWeights weights = RandomWeights(4);
  const std::vector<std::byte> snapshot = Snapshot(weights);
  const auto message = [&](const std::vector<TensorLayout>& layout, size_t num_bytes) {
    const auto model =
        BuildRunnableModel(weights.config, layout, std::span(snapshot).first(num_bytes));
    REQUIRE(model.status().code() == StatusCode::kInvalidArgument);
    return Message(model.status());
  };
  auto layout = weights.layout;
  layout[1].shape = {1, 2};
  CHECK(message(layout, snapshot.size()).find(layout[1].name) != std::string::npos);
  layout = weights.layout;
  layout[2].dtype = DType::kBF16;
  CHECK(message(layout, snapshot.size()).find(layout[2].name) != std::string::npos);
  layout = weights.layout;
  const std::string missing = layout.back().name;
  layout.pop_back();
  CHECK(message(layout, snapshot.size()).find(missing) != std::string::npos);
  layout = weights.layout;
  layout.push_back({.name = "model.extra.weight"});
  CHECK(message(layout, snapshot.size()).find("model.extra.weight") != std::string::npos);
  CHECK(message(weights.layout, snapshot.size() / 2).find("bytes") != std::string::npos);
}

TEST_CASE("Engine: greedy completions are those of transformers", "[unit][engine][torch]") {
  const char* python = std::getenv("ROLLCALL_PYTHON");
  const std::string probe =
      std::string(python != nullptr ? python : "python3") + " -c 'import transformers' 2>/dev/null";
  if (std::system(probe.c_str()) != 0) {  // NOLINT(concurrency-mt-unsafe)
    WARN("[skipped] no python with transformers");
    return;
  }
  const ModelWeights weights = RandomWeights(9);
  const testing::TempDir directory;
  REQUIRE_OK(SaveWeights(weights, directory.path().string()));
  EngineOptions options;
  options.block_size = 4;
  DecoderEngine rig(options, weights);
  std::vector<GroupRequest> groups;
  std::string prompts = "[";
  for (uint64_t id = 0; id < 6; ++id) {
    GroupRequest group = MakeGroup(id, 0.0);
    group.stream_keys = {id};
    group.max_new_tokens = 24;
    prompts += id == 0 ? "[" : ",[";
    for (size_t i = 0; i < group.prompt_token_ids.size(); ++i) {
      prompts += (i == 0 ? "" : ",") + std::to_string(group.prompt_token_ids[i]);
    }
    prompts += "]";
    REQUIRE_OK(rig.engine->AddGroup(group));
    groups.push_back(group);
  }
  const auto results = rig.RunAll();
  const std::string script = directory.Write("greedy.py", R"(
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
for prompt in )" + prompts + R"(]:
    ids = torch.tensor([prompt])
    for _ in range(24):
        token = int(model(ids).logits[0, -1].argmax())
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        if token == 0: break
    print(*ids[0, len(prompt):].tolist())
)");
  const std::string output = directory.File("output.txt");
  const std::string command = std::string(python != nullptr ? python : "python3") + " " + script +
                              " " + directory.path().string() + " > " + output + " 2> " + output +
                              ".err";
  REQUIRE(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  std::ifstream lines(output);
  for (uint64_t id = 0; id < groups.size(); ++id) {
    std::string line;
    REQUIRE(std::getline(lines, line));
    std::string got;
    for (const int32_t token : results.at({id, 0}).token_ids) {
      got += (got.empty() ? "" : " ") + std::to_string(token);
    }
    CHECK(got == line);
  }
}

}  // namespace rollcall
