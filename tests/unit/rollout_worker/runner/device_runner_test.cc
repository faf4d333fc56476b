// The device runner with the emulated device: steps of random batches against the runner on the
// CPU, with graphs and without.
#include "rollout_worker/runner/device_runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/runner/device_batch.h"
#include "rollout_worker/runner/graph_buckets.h"
#include "services/base/runtime/random.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"
#include "tests/support/emulated_runtime.h"

namespace rollcall {
namespace {

using testing::EmulatedRuntime;

constexpr int32_t kNumBlocks = 64;
constexpr int32_t kBlockSize = 4;

ModelConfig SmallConfig(Precision precision = Precision::kFloat32) {
  ModelConfig config;
  config.vocab_size = 41;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 64;
  config.precision = precision;
  return config;
}

struct Published {
  explicit Published(const ModelConfig& model_config, uint64_t seed) : config(model_config) {
    REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                          AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
    CounterRandom random(seed);
    float* parameters = weights.arena.mutable_data_ptr<float>();
    for (int64_t i = 0; i < weights.arena.numel(); ++i) {
      parameters[i] = 0.2F * static_cast<float>(random.Normal());
    }
    layout = weights.layout;
    snapshot.resize(static_cast<size_t>(weights.arena.numel()) * sizeof(float));
    REQUIRE_OK(CopyArenaTo(weights, snapshot.data(), snapshot.size()));
  }
  const ModelConfig config;
  std::vector<TensorLayout> layout;
  std::vector<std::byte> snapshot;
};

std::shared_ptr<const RunnableModel> OnDevice(const Published& published, DeviceRuntime& runtime) {
  REQUIRE_OK_AND_ASSIGN(auto model, BuildDeviceModel(published.config, published.layout,
                                                     published.snapshot, runtime));
  return model;
}

std::unique_ptr<ModelRunner> Runner(const ModelConfig& config,
                                    std::shared_ptr<DeviceRuntime> runtime,
                                    int32_t max_graph_sequences) {
  REQUIRE_OK_AND_ASSIGN(auto runner,
                        MakeDeviceRunner(config, std::move(runtime),
                                         {.num_blocks = kNumBlocks,
                                          .block_size = kBlockSize,
                                          .max_graph_sequences = max_graph_sequences}));
  return runner;
}

// Sequences that grow by random steps; batches of some of them.
class Traffic {
 public:
  explicit Traffic(uint64_t seed) : random_(seed) {
    for (int32_t block = 0; block < kNumBlocks; ++block) free_.push_back(block);
    Shuffle(std::span<int32_t>(free_), random_);
  }

  // Every sequence one token, or some of them some; new ones join.
  const BatchLayout& NextBatch() {
    batch_.Clear();
    while (sequences_.size() < 3 || (sequences_.size() < 6 && random_.Below(3) == 0)) {
      sequences_.emplace_back();
    }
    const bool is_decode = random_.Below(3) != 0;
    for (Sequence& sequence : sequences_) {
      const auto count = static_cast<int32_t>(is_decode ? 1 : random_.Below(4));
      if (sequence.length + count > 40) continue;
      while (static_cast<int32_t>(sequence.blocks.size()) * kBlockSize < sequence.length + count) {
        sequence.blocks.push_back(free_.back());
        free_.pop_back();
      }
      for (int32_t i = 0; i < count; ++i) {
        batch_.token_ids.push_back(static_cast<int32_t>(random_.Below(41)));
        batch_.positions.push_back(sequence.length + i);
        // The last token's logits, sometimes others, sometimes none.
        if (random_.Below(5) != 0) {
          batch_.logit_rows.push_back(static_cast<int64_t>(batch_.token_ids.size()) - 1);
        }
        if (!is_decode && random_.Below(3) == 0) {
          batch_.scored_rows.push_back(static_cast<int64_t>(batch_.token_ids.size()) - 1);
        }
      }
      batch_.sequences.push_back({sequence.blocks, sequence.length, count});
      sequence.length += count;
    }
    return batch_;
  }
  bool is_full() const {
    return free_.size() < 8 || std::any_of(
                                   sequences_.begin(), sequences_.end(),
                                   [](const Sequence& s) { return s.length > 36; });
  }

 private:
  struct Sequence {
    std::vector<BlockId> blocks;
    int32_t length = 0;
  };
  CounterRandom random_;
  std::vector<int32_t> free_;
  std::vector<Sequence> sequences_;
  BatchLayout batch_;
};

// The logits of the rows that are kept, then those of the scored ones.
std::vector<float> RunOn(ModelRunner& runner, const RunnableModel& model, BatchLayout batch) {
  std::vector<float> scored;
  batch.on_scored = [&](size_t first, std::span<const float> logits) {
    CHECK(first * 41 == scored.size());
    scored.insert(scored.end(), logits.begin(), logits.end());
  };
  REQUIRE_OK_AND_ASSIGN(const auto logits, runner.Run(model, batch));
  CHECK(scored.size() == 41 * batch.scored_rows.size());
  std::vector<float> all(logits.begin(), logits.end());
  all.insert(all.end(), scored.begin(), scored.end());
  return all;
}

TEST_CASE("DeviceRunner: random steps are as on the CPU, graphs change no bit",
          "[unit][engine][torch]") {
  for (const uint64_t seed : {1, 2, 3}) {
    for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
      const Published published(SmallConfig(precision), 7);
      const auto runtime = std::make_shared<EmulatedRuntime>();
      const auto with_graphs = Runner(published.config, runtime, 4);
      const auto without = Runner(published.config, runtime, 0);
      const auto model = OnDevice(published, *runtime);
      REQUIRE_OK_AND_ASSIGN(
          const auto cpu, MakeDecoderRunner(published.config,
                                            {.num_blocks = kNumBlocks, .block_size = kBlockSize}));
      REQUIRE_OK_AND_ASSIGN(
          const auto cpu_model,
          BuildRunnableModel(published.config, published.layout, published.snapshot));
      Traffic traffic(seed);
      while (!traffic.is_full()) {
        const BatchLayout& batch = traffic.NextBatch();
        const std::vector<float> want = RunOn(*cpu, *cpu_model, batch);
        const std::vector<float> got = RunOn(*with_graphs, *model, batch);
        REQUIRE(got == RunOn(*without, *model, batch));
        REQUIRE(got.size() == want.size());
        // Sums of another order; in bfloat16 an input may then be rounded to the other neighbour.
        const double bound = precision == Precision::kFloat32 ? 3e-4 : 0.1;
        for (size_t i = 0; i < got.size(); ++i) {
          if (std::abs(got[i] - want[i]) > bound) FAIL(got[i] << " is not " << want[i]);
        }
      }
      CHECK(runtime->num_captured > 0);
      CHECK(runtime->num_replayed > runtime->num_captured);
    }
  }
}

// One step of `count` sequences with one token each.
BatchLayout DecodeStep(std::vector<std::vector<BlockId>>& tables, int count) {
  BatchLayout batch;
  tables.assign(static_cast<size_t>(count), {});
  for (int i = 0; i < count; ++i) {
    tables[static_cast<size_t>(i)] = {i};
    batch.token_ids.push_back(i);
    batch.positions.push_back(0);
    batch.sequences.push_back({tables[static_cast<size_t>(i)], 0, 1});
    batch.logit_rows.push_back(i);
  }
  return batch;
}

TEST_CASE("DeviceRunner: one graph for each size and model, gone with the model",
          "[unit][engine][torch]") {
  const Published published(SmallConfig(), 8);
  const auto runtime = std::make_shared<EmulatedRuntime>();
  const auto runner = Runner(published.config, runtime, 8);
  auto model = OnDevice(published, *runtime);
  std::vector<std::vector<BlockId>> tables;
  for (const int count : {1, 3, 4, 3, 4, 1, 7, 8}) {
    REQUIRE_OK(runner->Run(*model, DecodeStep(tables, count)).status());
  }
  CHECK(runtime->num_captured == 3);  // of 1, 4 and 8
  CHECK(runtime->num_replayed == 8);
  REQUIRE_OK(runner->Run(*model, DecodeStep(tables, 9)).status());  // above the limit
  CHECK(runtime->num_replayed == 8);
  const auto next = OnDevice(Published(SmallConfig(), 9), *runtime);
  REQUIRE_OK(runner->Run(*next, DecodeStep(tables, 4)).status());
  CHECK(runtime->num_graphs == 4);
  model = nullptr;
  REQUIRE_OK(runner->Run(*next, DecodeStep(tables, 4)).status());
  CHECK(runtime->num_graphs == 1);
}

TEST_CASE("DeviceRunner: blocks are copied, read and written", "[unit][engine][torch]") {
  const Published published(SmallConfig(), 10);
  const auto runtime = std::make_shared<EmulatedRuntime>();
  const auto runner = Runner(published.config, runtime, 8);
  const auto other = Runner(published.config, runtime, 8);
  const auto model = OnDevice(published, *runtime);
  // A worker on the CPU would not understand them, and sees it by their size.
  CHECK(runner->block_bytes() > KvBlockBytes(published.config, kBlockSize));

  std::vector<BlockId> table = {5, 9};
  BatchLayout prompt;
  for (int32_t i = 0; i < 6; ++i) {
    prompt.token_ids.push_back(i);
    prompt.positions.push_back(i);
  }
  prompt.sequences.push_back({table, 0, 6});
  REQUIRE_OK(runner->Run(*model, prompt).status());

  const auto next = [](ModelRunner& on, const RunnableModel& of, std::vector<BlockId> blocks) {
    BatchLayout step;
    step.token_ids = {17};
    step.positions = {6};
    step.sequences = {{blocks, 6, 1}};
    step.logit_rows = {0};
    return RunOn(on, of, step);
  };
  const std::vector<float> want = next(*runner, *model, table);
  runner->CopyBlock(9, 30);
  CHECK(next(*runner, *model, {5, 30}) == want);
  std::vector<std::byte> bytes(static_cast<size_t>(runner->block_bytes()) * 2);
  runner->ReadBlocks(5, 1, bytes.data());
  runner->ReadBlocks(9, 1, bytes.data() + runner->block_bytes());
  other->WriteBlocks(40, 2, bytes.data());
  CHECK(next(*other, *model, {40, 41}) == want);
}

TEST_CASE("DeviceRunner: bad batches and failures of the device are statuses",
          "[unit][engine][torch]") {
  const Published published(SmallConfig(), 11);
  const auto runtime = std::make_shared<EmulatedRuntime>();
  const auto runner = Runner(published.config, runtime, 8);
  const auto model = OnDevice(published, *runtime);
  std::vector<std::vector<BlockId>> tables;
  const auto message = [&](const BatchLayout& batch) {
    const auto result = runner->Run(*model, batch);
    CHECK(result.status().code() == StatusCode::kInvalidArgument);
    return std::string(result.status().message());
  };
  BatchLayout batch = DecodeStep(tables, 2);
  batch.token_ids[1] = 41;
  CHECK(message(batch) == "token id 41 is outside 0 .. 40");
  batch = DecodeStep(tables, 2);
  batch.positions[0] = -1;
  CHECK(message(batch) == "position -1 is outside 0 .. 63");
  batch = DecodeStep(tables, 2);
  tables[1][0] = kNumBlocks;
  CHECK(message(batch) == "block 64 is outside 0 .. 63");
  batch = DecodeStep(tables, 2);
  batch.sequences[1].num_cached = 4;
  CHECK(message(batch) == "a block table of 1 blocks does not cover 5 tokens");
  batch = DecodeStep(tables, 2);
  batch.sequences.pop_back();
  CHECK(message(batch) == "the sequences bring 1 tokens, the batch has 2");
  batch = DecodeStep(tables, 2);
  batch.logit_rows[1] = 2;
  CHECK(message(batch) == "row of logits 2 is outside 0 .. 1");
  batch = DecodeStep(tables, 2);
  batch.scored_rows = {-1};
  CHECK(message(batch) == "scored row -1 is outside 0 .. 1");

  batch = DecodeStep(tables, 2);
  runtime->wait_status = Internal("an illegal memory access was encountered");
  CHECK(runner->Run(*model, batch).status().code() == StatusCode::kInternal);
  runtime->wait_status = OkStatus();
  REQUIRE_OK(runner->Run(*model, batch).status());

  CHECK(runner->CompactHeavyHitters({}, nullptr).code() == StatusCode::kUnimplemented);

  ModelConfig odd = SmallConfig();
  odd.head_dim = 12;
  CHECK(MakeDeviceRunner(odd, runtime, {.num_blocks = 1}).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("Graph buckets: the sizes of the steps", "[unit][engine]") {
  const std::vector<int64_t> sizes = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  for (int64_t n = 1; n <= 256; ++n) {
    CHECK(GraphSequences(n) == *std::lower_bound(sizes.begin(), sizes.end(), n));
  }
  CHECK(GraphKeys(1, 4096) == 512);
  CHECK(GraphKeys(513, 4096) == 1024);
  CHECK(GraphKeys(513, 700) == 700);
  CHECK(GraphKeys(64, 64) == 64);
}

}  // namespace
}  // namespace rollcall
