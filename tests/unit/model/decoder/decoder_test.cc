#include "services/model/decoder/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "services/base/runtime/random.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"

namespace rollcall {
namespace {

using Tokens = std::vector<int32_t>;
using Floats = std::vector<float>;

ModelConfig Config(int64_t num_heads, int64_t num_kv_heads, int64_t head_dim) {
  return {.vocab_size = 61,
          .hidden_size = 32,
          .intermediate_size = 45,
          .num_layers = 2,
          .num_heads = num_heads,
          .num_kv_heads = num_kv_heads,
          .head_dim = head_dim,
          .max_positions = 128};
}

const std::vector<ModelConfig>& Configs() {
  static const std::vector<ModelConfig> configs = {Config(4, 2, 8), Config(3, 3, 10),
                                                   Config(6, 1, 18)};
  return configs;
}

// One small model of every architecture, with windows and caps where it knows them.
std::vector<ModelConfig> FamilyConfigs() {
  std::vector<ModelConfig> configs;
  for (const std::string& type : KnownModelTypes()) {
    ModelConfig& config = configs.emplace_back(Config(4, type.starts_with("gpt") ? 4 : 2, 8));
    config.num_layers = 3;
    REQUIRE_OK(SetModelType(type, &config));
    if (type == "gpt_neox") config.rope.partial_factor = 0.5;
    if (type == "gemma2") {
      config.attention_softcap = 2.0;
      config.logit_softcap = 5.0;
    }
    const Status slides = SetSlidingWindow(7, &config);
    const bool knows_none =
        type == "llama" || type == "olmo2" || type == "gpt2" || type == "gpt_neox";
    CHECK(slides.ok() != knows_none);
  }
  return configs;
}

// In both precisions.
std::vector<ModelConfig> AllConfigs() {
  std::vector<ModelConfig> configs = Configs();
  for (const ModelConfig& config : FamilyConfigs()) configs.push_back(config);
  const std::vector<ModelConfig> float32 = configs;
  for (ModelConfig config : float32) {
    config.precision = Precision::kBFloat16;
    configs.push_back(config);
  }
  return configs;
}

ModelWeights RandomWeights(const ModelConfig& config, Gradients gradients = Gradients::kNone) {
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, gradients));
  REQUIRE_OK(InitializeWeights(11, &weights));
  CounterRandom random(12);
  float* values = weights.arena.mutable_data_ptr<float>();
  for (int64_t i = 0; i < weights.arena.numel(); ++i) {
    // Far from uniform, and no bias of zero.
    values[i] = 6.0F * values[i] + 0.05F * static_cast<float>(random.Normal());
  }
  return weights;
}

Tokens RandomTokens(CounterRandom& random, size_t length) {
  Tokens tokens(length);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(61));
  return tokens;
}

Floats ToFloats(const at::Tensor& tensor) {
  const float* data = tensor.const_data_ptr<float>();
  return {data, data + tensor.numel()};
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Logits of sequences packed into one call, one row of values per sequence.
std::vector<Floats> PackedLogits(const ModelWeights& weights, const PackedWeights* packed,
                                 const std::vector<Tokens>& sequences) {
  Tokens tokens;
  Tokens positions;
  Tokens starts = {0};
  for (const Tokens& sequence : sequences) {
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    for (size_t t = 0; t < sequence.size(); ++t) positions.push_back(static_cast<int32_t>(t));
    starts.push_back(static_cast<int32_t>(tokens.size()));
  }
  const auto attention = MakePackedAttention(weights.config, starts);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, packed, tokens, positions, *attention));
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, packed, hidden_NE));
  const Floats all = ToFloats(logits_NV);
  std::vector<Floats> result;
  for (size_t s = 0; s < sequences.size(); ++s) {
    result.emplace_back(all.begin() + starts[s] * 61, all.begin() + starts[s + 1] * 61);
  }
  return result;
}

// A pool of NaN, so that reading a place that was not written shows.
struct Pool {
  Pool(const ModelConfig& config, int64_t num_blocks, int64_t block_size)
      : memory(static_cast<size_t>(num_blocks * config.num_layers * 2 * config.num_kv_heads *
                                   block_size * config.head_dim),
               std::numeric_limits<float>::quiet_NaN()),
        view{memory.data(), num_blocks, block_size} {}
  Floats memory;
  KvPool view;
};

struct CachedSequence {
  Tokens tokens;
  Tokens block_table;
  int32_t num_cached = 0;
  Floats logits;  // of the tokens so far
};

struct Chunk {
  CachedSequence* sequence;
  int32_t num_new;
};

// One call over chunks of several sequences.
void Step(const ModelWeights& weights, const PackedWeights* packed, KvPool pool,
          const std::vector<Chunk>& chunks, const Compute& compute = {}) {
  Tokens tokens;
  Tokens positions;
  std::vector<PagedSequence> parts;
  for (const auto& [sequence, num_new] : chunks) {
    parts.push_back({sequence->block_table, sequence->num_cached, num_new});
    for (int32_t i = 0; i < num_new; ++i) {
      positions.push_back(sequence->num_cached + i);
      tokens.push_back(sequence->tokens[static_cast<size_t>(sequence->num_cached + i)]);
    }
  }
  const auto attention = MakePagedAttention(weights.config, pool, parts, compute);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, packed, tokens, positions, *attention, compute));
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, packed, hidden_NE, compute));
  const float* row = logits_NV.const_data_ptr<float>();
  for (const auto& [sequence, num_new] : chunks) {
    sequence->logits.insert(sequence->logits.end(), row, row + num_new * 61);
    sequence->num_cached += num_new;
    row += num_new * 61;
  }
}

std::vector<Tokens> RandomSequences(CounterRandom& random) {
  std::vector<Tokens> sequences;
  for (const size_t length : {1, 16, 37, 0, 64, 5, 100}) {
    sequences.push_back(RandomTokens(random, length));
  }
  return sequences;
}

TEST_CASE("Decoder: packed sequences are the single ones, bit for bit", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(1);
  for (const ModelConfig& config : AllConfigs()) {
    const ModelWeights weights = RandomWeights(config);
    REQUIRE_OK_AND_ASSIGN(const auto packed, PackWeights(weights));
    const std::vector<Tokens> sequences = RandomSequences(random);
    const std::vector<Floats> together = PackedLogits(weights, nullptr, sequences);
    const std::vector<Floats> inference = PackedLogits(weights, packed.get(), sequences);
    for (size_t s = 0; s < sequences.size(); ++s) {
      INFO(config.model_type << " heads " << config.num_heads << " sequence " << s);
      CHECK(SameBits(together[s], PackedLogits(weights, nullptr, {sequences[s]})[0]));
      CHECK(SameBits(together[s], inference[s]));
      for (const float logit : together[s]) REQUIRE(std::isfinite(logit));
    }
  }
}

TEST_CASE("Decoder: a token's logits do not see what follows it", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(2);
  const ModelWeights weights = RandomWeights(Configs()[0]);
  const Tokens whole = RandomTokens(random, 90);
  const Floats logits = PackedLogits(weights, nullptr, {whole})[0];
  for (const ptrdiff_t length : {1, 15, 16, 17, 48, 89}) {
    const Tokens head(whole.begin(), whole.begin() + length);
    CHECK(SameBits(PackedLogits(weights, nullptr, {head})[0],
                   Floats(logits.begin(), logits.begin() + length * 61)));
  }
}

TEST_CASE("Decoder: recording gradients leaves the bits alone", "[unit][model][torch]") {
  CounterRandom random(3);
  for (const ModelConfig& config : AllConfigs()) {
    INFO(config.model_type);
    const ModelWeights training = RandomWeights(config, Gradients::kAccumulate);
    const ModelWeights frozen = RandomWeights(config);
    const std::vector<Tokens> sequences = RandomSequences(random);
    CHECK(PackedLogits(training, nullptr, sequences) == PackedLogits(frozen, nullptr, sequences));
  }
}

// The cache is filled in chunks of any size, several sequences at different places in one call.
TEST_CASE("Decoder: any schedule through the paged cache is the packed forward, bit for bit",
          "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(4);
  const std::vector<ModelConfig> configs = AllConfigs();
  for (size_t c = 0; c < configs.size(); ++c) {
    const ModelConfig& config = configs[c];
    const ModelWeights weights = RandomWeights(config);
    REQUIRE_OK_AND_ASSIGN(const auto packed, PackWeights(weights));
    for (const int64_t block_size : {16, 32, 4, 5, 1}) {
      for (const uint64_t max_chunk : {1, 3, 40, 128}) {
        // All schedules for the first models, some for each architecture.
        const bool is_sampled = block_size == 16 || block_size == 5;
        if (c >= Configs().size() && (!is_sampled || max_chunk == 1 || max_chunk == 128)) continue;
        INFO(config.model_type << " heads " << config.num_heads << " block " << block_size
                               << " chunk " << max_chunk);
        const std::vector<Tokens> sequences = RandomSequences(random);
        const std::vector<Floats> want = PackedLogits(weights, nullptr, sequences);
        Tokens free_blocks(300);
        std::iota(free_blocks.begin(), free_blocks.end(), 0);
        Shuffle(std::span(free_blocks), random);
        Pool pool(config, 300, block_size);
        std::vector<CachedSequence> cached;
        for (const Tokens& tokens : sequences) {
          CachedSequence& sequence = cached.emplace_back(CachedSequence{.tokens = tokens});
          while (static_cast<int64_t>(sequence.block_table.size()) * block_size <
                 static_cast<int64_t>(tokens.size())) {
            sequence.block_table.push_back(free_blocks.back());
            free_blocks.pop_back();
          }
        }
        for (bool is_done = false; !is_done;) {
          is_done = true;
          std::vector<Chunk> chunks;
          for (CachedSequence& sequence : cached) {
            const auto left = static_cast<uint64_t>(sequence.tokens.size()) - sequence.num_cached;
            if (left == 0) continue;
            is_done = false;
            const uint64_t num_new = std::min(left, random.Below(max_chunk + 1));
            chunks.push_back({&sequence, static_cast<int32_t>(num_new)});
          }
          Shuffle(std::span(chunks), random);
          Step(weights, random.Below(2) == 0 ? nullptr : packed.get(), pool.view, chunks);
        }
        for (size_t s = 0; s < sequences.size(); ++s) {
          INFO("sequence " << s);
          CHECK(SameBits(cached[s].logits, want[s]));
        }
      }
    }
  }
}

// Wide enough that every operation is cut between threads, and heads and queries between tasks.
TEST_CASE("Decoder: the number of threads changes no bit", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(8);
  ModelConfig config = Config(8, 2, 32);
  config.hidden_size = 256;
  config.intermediate_size = 700;
  config.max_positions = 512;
  config.logit_softcap = 30;
  config.precision = GENERATE(Precision::kFloat32, Precision::kBFloat16);
  const ModelWeights weights = RandomWeights(config);
  REQUIRE_OK_AND_ASSIGN(const auto packed, PackWeights(weights));
  const std::vector<Tokens> sequences = {RandomTokens(random, 300), RandomTokens(random, 9),
                                         RandomTokens(random, 120)};
  const std::vector<Floats> want = PackedLogits(weights, nullptr, sequences);
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadTeam team(num_threads);
    for (const uint64_t max_chunk : {1, 200}) {
      Pool pool(config, 40, 16);
      std::vector<CachedSequence> cached;
      int32_t next_block = 0;
      for (const Tokens& tokens : sequences) {
        CachedSequence& sequence = cached.emplace_back(CachedSequence{.tokens = tokens});
        for (size_t t = 0; t < tokens.size(); t += 16) sequence.block_table.push_back(next_block++);
      }
      for (bool is_done = false; !is_done;) {
        is_done = true;
        std::vector<Chunk> chunks;
        for (CachedSequence& sequence : cached) {
          const auto left = static_cast<uint64_t>(sequence.tokens.size()) - sequence.num_cached;
          // A single token only now and then: the rest of the prompt goes in one step.
          const uint64_t size = sequence.num_cached < 100 ? 100 : max_chunk;
          if (left == 0) continue;
          is_done = false;
          chunks.push_back({&sequence, static_cast<int32_t>(std::min(left, size))});
        }
        Step(weights, packed.get(), pool.view, chunks, {.team = &team});
      }
      for (size_t s = 0; s < sequences.size(); ++s) {
        INFO(num_threads << " threads, chunk " << max_chunk << ", sequence " << s);
        CHECK(SameBits(cached[s].logits, want[s]));
      }
    }
  }
}

// The learner's numbers are those of a sampler that keeps half the bytes, so they differ from
// float32's by about the rounding of the inputs, and by more than nothing.
TEST_CASE("Decoder: bfloat16 is near float32", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(9);
  ModelConfig config = Config(4, 2, 32);
  config.hidden_size = 128;
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
  REQUIRE_OK(InitializeWeights(3, &weights));
  const std::vector<Tokens> sequences = {RandomTokens(random, 100)};
  const Floats exact = PackedLogits(weights, nullptr, sequences)[0];
  weights.config.precision = Precision::kBFloat16;
  const Floats rounded = PackedLogits(weights, nullptr, sequences)[0];
  double square = 0;
  double difference = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    square += double{exact[i]} * double{exact[i]};
    difference += (double{exact[i]} - rounded[i]) * (double{exact[i]} - rounded[i]);
  }
  const double relative = std::sqrt(difference / square);
  CHECK(relative > 1e-4);
  CHECK(relative < 1e-2);  // a rounding errs by up to 2^-9
}

// Whatever the sampler's weights are, its numbers do not depend on the schedule.
TEST_CASE("Decoder: int8 weights are near float32 and give the same bits in every schedule",
          "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(11);
  ModelConfig config = Config(4, 2, 32);
  config.hidden_size = 128;
  config.precision = GENERATE(Precision::kFloat32, Precision::kBFloat16);
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
  REQUIRE_OK(InitializeWeights(3, &weights));
  REQUIRE_OK_AND_ASSIGN(const auto packed, PackWeights(weights, Quantization::kInt8));
  const std::vector<Tokens> sequences = {RandomTokens(random, 100)};
  const Floats exact = PackedLogits(weights, nullptr, sequences)[0];
  const Floats rounded = PackedLogits(weights, packed.get(), sequences)[0];
  double square = 0;
  double difference = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    square += double{exact[i]} * double{exact[i]};
    difference += (double{exact[i]} - rounded[i]) * (double{exact[i]} - rounded[i]);
  }
  CHECK(std::sqrt(difference / square) > 1e-3);
  CHECK(std::sqrt(difference / square) < 5e-2);
  for (const int32_t chunk : {1, 7, 40}) {
    ThreadTeam team(2);
    Pool pool(config, 10, 16);
    CachedSequence cached{.tokens = sequences[0], .block_table = {6, 0, 3, 9, 1, 4, 2}};
    while (cached.num_cached < 100) {
      const int32_t num_new = std::min(chunk, 100 - cached.num_cached);
      Step(weights, packed.get(), pool.view, {{&cached, num_new}}, {.team = &team});
    }
    CHECK(SameBits(cached.logits, rounded));
  }
}

// The gradient of the rounding is the identity: that of the loss is near float32's.
TEST_CASE("Decoder: bfloat16 passes gradients to the float32 parameters", "[unit][model][torch]") {
  CounterRandom random(10);
  const Tokens tokens = RandomTokens(random, 30);
  const Tokens targets = RandomTokens(random, 30);
  Tokens positions(30);
  std::iota(positions.begin(), positions.end(), 0);
  const auto gradient = [&](Precision precision) {
    ModelConfig config = Configs()[0];
    config.precision = precision;
    REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                          AllocateWeights(config, Head::kLanguageModel, Gradients::kAccumulate));
    REQUIRE_OK(InitializeWeights(3, &weights));
    const auto attention = MakePackedAttention(config, {0, 30});
    REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                          DecoderHidden(weights, nullptr, tokens, positions, *attention));
    REQUIRE_OK_AND_ASSIGN(const TokenLogprobs result,
                          ComputeTokenLogprobs(weights, nullptr, hidden_NE, targets, 1.0));
    at::sum(result.logprobs_N).backward();
    return ToFloats(GradArena(weights));
  };
  const Floats exact = gradient(Precision::kFloat32);
  const Floats rounded = gradient(Precision::kBFloat16);
  double square = 0;
  double difference = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    square += double{exact[i]} * double{exact[i]};
    difference += (double{exact[i]} - rounded[i]) * (double{exact[i]} - rounded[i]);
  }
  CHECK(square > 0);
  CHECK(std::sqrt(difference / square) > 1e-5);
  CHECK(std::sqrt(difference / square) < 3e-2);
}

TEST_CASE("Decoder: blocks of a shared prefix serve both sequences", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(5);
  const ModelWeights weights = RandomWeights(Configs()[0]);
  const Tokens prefix = RandomTokens(random, 32);
  Tokens first = prefix;
  Tokens second = prefix;
  first.insert(first.end(), {1, 2, 3});
  second.insert(second.end(), {7, 8, 9, 10});
  Pool pool(weights.config, 5, 16);
  CachedSequence a{.tokens = first, .block_table = {4, 1, 0}};
  Step(weights, nullptr, pool.view, {{&a, 35}});
  CachedSequence b{.tokens = second, .block_table = {4, 1, 3}, .num_cached = 32};
  Step(weights, nullptr, pool.view, {{&b, 4}});
  const Floats want = PackedLogits(weights, nullptr, {second})[0];
  CHECK(SameBits(b.logits, Floats(want.begin() + 32 * 61, want.end())));
}

TEST_CASE("Decoder: log-probabilities agree with those of the sampler, bit for bit",
          "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  CounterRandom random(6);
  for (const ModelConfig& config : AllConfigs()) {
    INFO(config.model_type << " heads " << config.num_heads);
    const ModelWeights weights = RandomWeights(config);
    const Tokens tokens = RandomTokens(random, 40);
    const Tokens targets = RandomTokens(random, 40);
    Tokens positions(40);
    std::iota(positions.begin(), positions.end(), 0);
    const auto attention = MakePackedAttention(weights.config, {0, 40});
    REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                          DecoderHidden(weights, nullptr, tokens, positions, *attention));
    REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, nullptr, hidden_NE));
    const Floats logits = ToFloats(logits_NV);
    for (const double temperature : {1.0, 0.6, 1e-3, 50.0}) {
      REQUIRE_OK_AND_ASSIGN(
          const TokenLogprobs result,
          ComputeTokenLogprobs(weights, nullptr, hidden_NE, targets, temperature));
      const Floats logprobs = ToFloats(result.logprobs_N);
      const Floats entropies = ToFloats(result.entropy_N);
      Floats row(61);
      for (size_t n = 0; n < 40; ++n) {
        LogSoftmaxRow(std::span(logits).subspan(n * 61, 61), temperature, row);
        CHECK(row[static_cast<size_t>(targets[n])] == logprobs[n]);
        double total = 0;
        double entropy = 0;
        for (const float logprob : row) {
          total += std::exp(double{logprob});
          entropy -= std::exp(double{logprob}) * double{logprob};
        }
        CHECK(total == Approx(1.0).epsilon(1e-5));
        CHECK(entropies[n] == Approx(entropy).margin(1e-4));
      }
    }
  }
}

TEST_CASE("Decoder: wrong calls are refused with what is wrong", "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  const ModelWeights weights = RandomWeights(Configs()[0]);
  const auto refused = [&](const Tokens& tokens, const Tokens& positions, AttentionContext& context,
                           const std::string& part) {
    const Status status = DecoderHidden(weights, nullptr, tokens, positions, context).status();
    INFO(status.ToString());
    CHECK(!status.ok());
    CHECK(Message(status).find(part) != std::string::npos);
  };
  const auto attention = MakePackedAttention(weights.config, {0, 2});
  refused({1, 61}, {0, 1}, *attention, "token id 61 at index 1 is outside 0 .. 60");
  refused({-1, 1}, {0, 1}, *attention, "token id -1 at index 0");
  refused({1, 2}, {0, 128}, *attention, "position 128 at index 1 is outside 0 .. 127");
  refused({1, 2}, {0}, *attention, "2 tokens with 1 positions");
  refused({1, 2, 3}, {0, 1, 2}, *attention, "do not cover the tokens");
  refused({1, 2}, {0, 1}, *MakePackedAttention(weights.config, {}), "do not cover the tokens");
  refused({1, 2}, {0, 1}, *MakePackedAttention(weights.config, {0, 3, 2}), "not in order");
  refused({1, 2}, {0, 1}, *MakePackedAttention(weights.config, {0, -1, 2}), "not in order");

  Pool pool(weights.config, 2, 4);
  const auto paged = [&](const Tokens& table, int32_t num_cached, int32_t num_new) {
    return MakePagedAttention(weights.config, pool.view, {{table, num_cached, num_new}});
  };
  const Tokens one = {1};
  const Tokens outside = {2};
  const Tokens negative = {-1};
  refused({1, 2}, {3, 4}, *paged(one, 3, 2), "a block table of 1 blocks does not cover 5 tokens");
  refused({1, 2}, {0, 1}, *paged(outside, 0, 2), "block 2 is not one of the pool's 2");
  refused({1, 2}, {0, 1}, *paged(negative, 0, 2), "block -1");
  refused({1, 2}, {0, 1}, *paged(one, 0, 1), "bring 1 tokens, the call has 2");
  refused({1, 2}, {0, 1}, *paged(one, -1, 2), "does not cover");

  const at::Tensor hidden_NE = at::zeros({3, 32}, at::kFloat);
  const Tokens targets = {0, 1, 61};
  CHECK(!ComputeTokenLogprobs(weights, nullptr, hidden_NE, targets, 1.0).ok());
  CHECK(!ComputeTokenLogprobs(weights, nullptr, hidden_NE, {}, 1.0).ok());
  const Tokens fine = {0, 1, 2};
  for (const double temperature : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    CHECK(!ComputeTokenLogprobs(weights, nullptr, hidden_NE, fine, temperature).ok());
  }
  CHECK(!Logits(weights, nullptr, at::zeros({3, 31}, at::kFloat)).ok());
  CHECK(!Logits(weights, nullptr, at::zeros({32}, at::kFloat)).ok());
  CHECK(!Logits(weights, nullptr, at::zeros({3, 32}, at::kDouble)).ok());
  CHECK(Values(weights, hidden_NE).status().code() == StatusCode::kFailedPrecondition);
  REQUIRE_OK_AND_ASSIGN(const ModelWeights critic, MakeCritic(weights, Gradients::kNone));
  CHECK(Logits(critic, nullptr, hidden_NE).status().code() == StatusCode::kFailedPrecondition);
  CHECK(ComputeTokenLogprobs(critic, nullptr, hidden_NE, fine, 1.0).status().code() ==
        StatusCode::kFailedPrecondition);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor values_N, Values(critic, hidden_NE));
  CHECK(ToFloats(values_N) == Floats(3, 0.0F));
}

}  // namespace
}  // namespace rollcall
