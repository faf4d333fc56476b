// How long a sequence pauses when it moves, by its length, beside a copy that stops it first.
// Hidden: `./dev bench migration` runs it.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "tests/unit/rollout_worker/migration/migration_rig.h"

namespace rollcall {
namespace {

using testing::kMigrationJob;
using testing::MakeRandomModel;
using testing::MigrationRig;

// 16 KiB of KV memory per token.
ModelConfig BenchConfig() {
  ModelConfig config;
  config.vocab_size = 512;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.num_layers = 8;
  config.num_heads = 8;
  config.num_kv_heads = 8;
  config.head_dim = 32;
  config.max_positions = 8192;
  config.tie_word_embeddings = true;
  return config;
}

struct Pause {
  double move_ms = 0;    // longest gap between two tokens while it moved
  double decode_ms = 0;  // median gap before
};

Pause Measure(const std::shared_ptr<const RunnableModel>& model, int32_t length,
              const MigrationSourceOptions& options) {
  EngineOptions engine;
  engine.kv_cache_bytes = int64_t{512} << 20;
  MigrationRig source(BenchConfig(), engine, model, options);
  MigrationRig destination(BenchConfig(), engine, model);
  GroupRequest group;
  group.group_id = 1;
  group.prompt_token_ids.assign(static_cast<size_t>(length), 3);
  group.stream_keys = {9};
  group.max_new_tokens = 400;
  group.is_streaming = true;
  source.AddGroup(group);
  REQUIRE(source.WaitForTokens(1, 40));
  const size_t before = source.times({1, 0}).size();
  REQUIRE_OK(source.source().MigrateOut(kMigrationJob, destination.address(), 1).status());
  REQUIRE(source.WaitForSamples(1));
  REQUIRE(source.source().num_moved() == 1);
  const std::vector<absl::Time> times = source.times({1, 0});
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i) {
    gaps.push_back(absl::ToDoubleMilliseconds(times[i] - times[i - 1]));
  }
  Pause pause;
  pause.move_ms = *std::max_element(gaps.begin() + static_cast<ptrdiff_t>(before), gaps.end());
  std::vector<double> early(gaps.begin(), gaps.begin() + static_cast<ptrdiff_t>(before) - 1);
  std::nth_element(early.begin(), early.begin() + static_cast<ptrdiff_t>(early.size() / 2),
                   early.end());
  pause.decode_ms = early[early.size() / 2];
  return pause;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

TEST_CASE("Migration: pause by length", "[.bench]") {
  const auto model = MakeRandomModel(BenchConfig());
  std::printf("%8s %12s %12s %16s %16s\n", "tokens", "KV MiB", "decode ms", "pause live ms",
              "stop-and-copy ms");
  for (const int32_t length : {256, 512, 1024, 2048, 4096}) {
    std::vector<double> live;
    std::vector<double> stopped;
    std::vector<double> decode;
    for (int round = 0; round < 5; ++round) {
      const Pause a = Measure(model, length, {});
      const Pause b = Measure(model, length, {.last_stage_blocks = 1 << 20});
      live.push_back(a.move_ms);
      stopped.push_back(b.move_ms);
      decode.push_back(a.decode_ms);
    }
    std::printf("%8d %12.1f %12.2f %16.2f %16.2f\n", length, length * 16.0 / 1024, Median(decode),
                Median(live), Median(stopped));
    std::fflush(stdout);
  }
}

}  // namespace rollcall
