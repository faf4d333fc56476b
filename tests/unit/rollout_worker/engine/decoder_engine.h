// An engine over a small random model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"

namespace rollcall::testing {

inline ModelConfig SmallConfig() {
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
  config.eos_token_ids = {0};
  return config;
}

inline ModelWeights RandomWeights(uint64_t seed, const ModelConfig& config = SmallConfig()) {
  auto weights = AllocateWeights(config, Head::kLanguageModel, Gradients::kNone);
  REQUIRE_OK(weights.status());
  REQUIRE_OK(InitializeWeights(seed, &*weights));
  // Larger than an initialization would be, so that the distributions are far from uniform.
  float* data = weights->arena.mutable_data_ptr<float>();
  for (const TensorLayout& tensor : weights->layout) {
    if (tensor.shape.size() < 2) continue;
    for (uint64_t i = 0; i < tensor.size_bytes / 4; ++i) data[tensor.offset_bytes / 4 + i] *= 6.0F;
  }
  return *std::move(weights);
}

inline std::vector<std::byte> Snapshot(const ModelWeights& weights) {
  std::vector<std::byte> bytes(static_cast<size_t>(weights.arena.numel()) * sizeof(float));
  REQUIRE_OK(CopyArenaTo(weights, bytes.data(), bytes.size()));
  return bytes;
}

struct DecoderEngine {
  DecoderEngine(EngineOptions options, const ModelWeights& weights) {
    auto made = Engine::Create(options, weights.config, EngineMetrics(*metrics), clock);
    REQUIRE_OK(made.status());
    engine = *std::move(made);
    auto model = BuildRunnableModel(weights.config, weights.layout, Snapshot(weights));
    REQUIRE_OK(model.status());
    engine->AddModel(1, 5, *model);
  }
  std::map<std::pair<uint64_t, int32_t>, CompletedSample> RunAll() {
    std::map<std::pair<uint64_t, int32_t>, CompletedSample> results;
    while (engine->has_work()) {
      for (CompletedSample& sample : engine->Step().completed) {
        REQUIRE_OK(sample.status);
        results.emplace(std::make_pair(sample.group_id, sample.index), std::move(sample));
      }
    }
    CHECK(engine->cache().num_used() == 0);
    return results;
  }
  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  SystemClock clock;
  std::unique_ptr<Engine> engine;
};

}  // namespace rollcall::testing
