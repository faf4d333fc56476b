// The shared decoder with the device's kernels, which the emulator runs on the CPU, against the
// decoder on the CPU: architectures that differ in all traits, prompts, chunks and decode steps.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include "services/base/runtime/random.h"
#include "services/model/adapter/lora_weights.h"
#include "services/model/decoder/decoder.h"
#include "services/model/decoder/device_attention.h"
#include "services/model/layers/device.h"
#include "services/model/layers/device_forward.h"
#include "services/model/layers/rotary_table.h"
#include "services/model/weights/device_weights.h"
#include "tests/support/catch_torch.h"
#include "tests/support/device_emulator.h"

namespace rollcall {
namespace {

constexpr int64_t kBlockSize = 4;
constexpr int64_t kNumBlocks = 40;

ModelConfig ConfigOf(const std::string& model_type) {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 4;
  config.head_dim = 8;
  config.max_positions = 64;
  REQUIRE_OK(SetModelType(model_type, &config));
  if (HasKvHeads(config)) config.num_kv_heads = 2;
  if (model_type == "gemma2" || model_type == "qwen3") config.head_dim = 16;
  if (model_type == "gemma2") REQUIRE_OK(SetSlidingWindow(5, &config));
  REQUIRE_OK(ValidateModelConfig(config));
  return config;
}

ModelWeights RandomWeights(const ModelConfig& config) {
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
  // Larger than at the start of training, so that attention and norms have something to do.
  CounterRandom random(5);
  float* parameters = weights.arena.mutable_data_ptr<float>();
  for (int64_t i = 0; i < weights.arena.numel(); ++i) {
    parameters[i] = 0.2F * static_cast<float>(random.Normal());
  }
  return weights;
}

// One sequence of a call: tokens first .. first+count-1 of `tokens`, or padding.
struct Part {
  const std::vector<int32_t>* tokens = nullptr;
  std::vector<int32_t> blocks;
  int32_t first = 0;
  int32_t count = 0;
};

// Logits of all tokens of all parts, padding left out; keys stay in the pool.
class DeviceModel {
 public:
  DeviceModel(const ModelWeights& weights, at::ScalarType dtype)
      : device_{.kernels = &kEmulatedKernels} {
    REQUIRE_OK_AND_ASSIGN(weights_, WeightsOnDevice(weights, at::kCPU, dtype));
    const ModelConfig& config = weights.config;
    pool_ = {.blocks = at::full({kNumBlocks, config.num_layers, 2, config.num_kv_heads, kBlockSize,
                                 config.head_dim},
                                NAN, at::TensorOptions().dtype(dtype)),
             .block_size = kBlockSize};
  }

  at::Tensor Logits(const std::vector<Part>& parts) {
    std::vector<int32_t> ids, positions, slots, starts = {0}, num_keys, tables;
    const int64_t stride = 16;
    int64_t max_queries = 1;
    for (const Part& part : parts) {
      for (int32_t t = part.first; t < part.first + part.count; ++t) {
        ids.push_back((*part.tokens)[t]);
        positions.push_back(t);
        slots.push_back(part.blocks[t / kBlockSize] * static_cast<int32_t>(kBlockSize) +
                        t % static_cast<int32_t>(kBlockSize));
      }
      if (part.count == 0) {  // padding: one token that goes nowhere
        ids.push_back(0);
        positions.push_back(0);
        slots.push_back(-1);
      }
      starts.push_back(static_cast<int32_t>(ids.size()));
      num_keys.push_back(part.count == 0 ? 0 : part.first + part.count);
      tables.insert(tables.end(), part.blocks.begin(), part.blocks.end());
      tables.resize(num_keys.size() * stride, -1);
      max_queries = std::max<int64_t>(max_queries, part.count);
    }
    const auto attention = MakeDeviceAttention(
        weights_.config, device_, pool_,
        {.slots_N = at::tensor(slots, at::kInt),
         .query_starts_S1 = at::tensor(starts, at::kInt),
         .num_keys_S = at::tensor(num_keys, at::kInt),
         .block_tables_ST =
             at::tensor(tables, at::kInt).view({static_cast<int64_t>(num_keys.size()), stride}),
         .max_queries = max_queries,
         .max_keys = weights_.config.max_positions});
    const Compute compute{.device = &device_};
    REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden,
                          DecoderHidden(weights_, nullptr, at::tensor(ids, at::kInt),
                                        at::tensor(positions, at::kInt), *attention, compute));
    REQUIRE_OK_AND_ASSIGN(const at::Tensor logits,
                          rollcall::Logits(weights_, nullptr, hidden, compute));
    std::vector<int32_t> rows;
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int32_t n = starts[s]; n < starts[s] + parts[s].count; ++n) rows.push_back(n);
    }
    return device_forward::GatherRows(device_, logits, at::tensor(rows, at::kInt));
  }

 private:
  const Device device_;
  ModelWeights weights_;
  DeviceKvPool pool_;
};

std::vector<int32_t> RandomTokens(CounterRandom& random, int count) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random.Below(50)));
  return tokens;
}

std::vector<int32_t> Positions(int32_t first, int32_t count) {
  std::vector<int32_t> positions;
  for (int32_t i = 0; i < count; ++i) positions.push_back(first + i);
  return positions;
}

at::Tensor CpuLogits(const ModelWeights& weights, const std::vector<int32_t>& tokens) {
  const auto count = static_cast<int32_t>(tokens.size());
  const auto attention = MakePackedAttention(weights.config, {0, count});
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden,
                        DecoderHidden(weights, nullptr, tokens, Positions(0, count), *attention));
  REQUIRE_OK_AND_ASSIGN(at::Tensor logits, Logits(weights, nullptr, hidden));
  return logits;
}

double LargestDifference(const at::Tensor& a, const at::Tensor& b) {
  return a.sub(b).abs().max().item().toDouble();
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

TEST_CASE("Device decoder: every architecture is as on the CPU", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  for (const std::string& model_type : KnownModelTypes()) {
    INFO(model_type);
    const ModelWeights weights = RandomWeights(ConfigOf(model_type));
    CounterRandom random(1);
    const std::vector<int32_t> tokens = RandomTokens(random, 23);
    const at::Tensor want = CpuLogits(weights, tokens);
    DeviceModel device(weights, at::kFloat);
    const at::Tensor got =
        device.Logits({{.tokens = &tokens, .blocks = {7, 1, 30, 4, 2, 9}, .count = 23}});
    // Float rounding of sums in another order, over two layers.
    CHECK(LargestDifference(got, want) < 2e-4 * want.abs().max().item().toDouble());
  }
}

TEST_CASE("Device decoder: chunks, batches and padding change no bit", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  for (const std::string model_type : {"llama", "gemma2"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      INFO(model_type << " " << c10::toString(dtype));
      const ModelWeights weights = RandomWeights(ConfigOf(model_type));
      CounterRandom random(2);
      const std::vector<int32_t> a = RandomTokens(random, 21);
      const std::vector<int32_t> b = RandomTokens(random, 13);
      const std::vector<int32_t> blocks_a = {3, 9, 0, 12, 5, 20};
      const std::vector<int32_t> blocks_b = {8, 39, 11, 2};
      DeviceModel whole(weights, dtype);
      const at::Tensor want_a = whole.Logits({{.tokens = &a, .blocks = blocks_a, .count = 21}});
      const at::Tensor want_b = whole.Logits({{.tokens = &b, .blocks = blocks_b, .count = 13}});

      DeviceModel cut(weights, dtype);
      int32_t done_a = 0;
      int32_t done_b = 0;
      while (done_a < 21 || done_b < 13) {
        const auto take_a = static_cast<int32_t>(std::min<uint64_t>(random.Below(6), 21 - done_a));
        const auto take_b = static_cast<int32_t>(std::min<uint64_t>(random.Below(3), 13 - done_b));
        const at::Tensor got =
            cut.Logits({{.tokens = &a, .blocks = blocks_a, .first = done_a, .count = take_a},
                        {},
                        {.tokens = &b, .blocks = blocks_b, .first = done_b, .count = take_b}});
        REQUIRE(SameBits(got.slice(0, 0, take_a).contiguous(),
                         want_a.slice(0, done_a, done_a + take_a).contiguous()));
        REQUIRE(SameBits(got.slice(0, take_a, take_a + take_b).contiguous(),
                         want_b.slice(0, done_b, done_b + take_b).contiguous()));
        done_a += take_a;
        done_b += take_b;
      }
    }
  }
}

TEST_CASE("Device decoder: bfloat16 is near float32", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  const ModelWeights weights = RandomWeights(ConfigOf("llama"));
  CounterRandom random(3);
  const std::vector<int32_t> tokens = RandomTokens(random, 12);
  const at::Tensor want = CpuLogits(weights, tokens);
  DeviceModel device(weights, at::kBFloat16);
  const at::Tensor got = device.Logits({{.tokens = &tokens, .blocks = {0, 1, 2}, .count = 12}});
  const double scale = want.abs().max().item().toDouble();
  CHECK(LargestDifference(got, want) < 0.05 * scale);
  CHECK(LargestDifference(got, want) > 1e-5 * scale);  // it was rounded
}

TEST_CASE("WeightsOnDevice: what is rounded, what is shared, what is refused",
          "[unit][model][torch]") {
  ModelConfig config = ConfigOf("llama");
  config.tie_word_embeddings = true;
  ModelWeights weights = RandomWeights(config);
  REQUIRE_OK_AND_ASSIGN(const ModelWeights half, WeightsOnDevice(weights, at::kCPU, at::kBFloat16));
  CHECK(half.lm_head_VE.scalar_type() == at::kBFloat16);
  CHECK(half.layers[1].q_proj_OE.scalar_type() == at::kBFloat16);
  CHECK(half.embed_VE.scalar_type() == at::kFloat);
  CHECK(half.final_norm_E.scalar_type() == at::kFloat);
  CHECK(half.rotary->Covering(64).size(0) >= 64);
  REQUIRE_OK_AND_ASSIGN(const ModelWeights full, WeightsOnDevice(weights, at::kCPU, at::kFloat));
  CHECK(full.lm_head_VE.const_data_ptr() == full.embed_VE.const_data_ptr());
  CHECK(full.embed_VE.const_data_ptr() != weights.embed_VE.const_data_ptr());
  weights.lora = std::make_shared<LoraWeights>();
  CHECK(WeightsOnDevice(weights, at::kCPU, at::kFloat).status().code() ==
        StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rollcall
