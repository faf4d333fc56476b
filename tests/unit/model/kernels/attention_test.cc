// Attention with windows, caps and scales of its own, against a sum in double and bit for bit over
// every cutting of the sequence.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Floats = std::vector<float>;

constexpr int64_t kTokens = 75;
constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kDim = 10;

struct Law {
  float scale = 1;
  float softcap = 0;
  int64_t window = 0;
};
constexpr Law kLaws[] = {{0.3F, 0, 0},    {0.3F, 0, 1},    {0.4F, 0, 7},
                         {0.3F, 0, 16},   {0.3F, 0, 40},   {0.3F, 0, 1000},
                         {0.5F, 1.5F, 0}, {0.5F, 1.5F, 7}, {1.0F, 0.7F, 17}};

struct Input {
  Floats q, k, v, dout;
};

Input RandomInput() {
  CounterRandom random(9);
  Input input;
  for (int64_t i = 0; i < kTokens * kHeads * kDim; ++i) {
    input.q.push_back(static_cast<float>(random.Normal()));
    input.dout.push_back(static_cast<float>(random.Normal()));
  }
  for (int64_t i = 0; i < kTokens * kKvHeads * kDim; ++i) {
    input.k.push_back(static_cast<float>(random.Normal()));
    input.v.push_back(static_cast<float>(random.Normal()));
  }
  return input;
}

// Query t of head h, in double.
std::vector<double> Reference(const Input& input, const Law& law, int64_t t, int64_t head) {
  const int64_t kv = head / (kHeads / kKvHeads);
  const int64_t first = law.window > 0 ? std::max<int64_t>(0, t + 1 - law.window) : 0;
  std::vector<double> weights;
  double total = 0;
  for (int64_t j = first; j <= t; ++j) {
    double score = 0;
    for (int64_t d = 0; d < kDim; ++d) {
      score +=
          double{input.q[(t * kHeads + head) * kDim + d]} * input.k[(j * kKvHeads + kv) * kDim + d];
    }
    score *= law.scale;
    if (law.softcap > 0) score = law.softcap * std::tanh(score / law.softcap);
    weights.push_back(std::exp(score));
    total += weights.back();
  }
  std::vector<double> out(kDim, 0.0);
  for (int64_t j = first; j <= t; ++j) {
    for (int64_t d = 0; d < kDim; ++d) {
      out[d] += weights[j - first] / total * input.v[(j * kKvHeads + kv) * kDim + d];
    }
  }
  return out;
}

// Keys and values in blocks, all written, what is beyond the last token not a number.
struct Blocks {
  Floats memory;
  std::vector<const float*> k, v;
  int64_t size;

  Blocks(const Input& input, int64_t block_size) : size(block_size) {
    const int64_t count = (kTokens + size - 1) / size;
    const int64_t plane = kKvHeads * size * kDim;
    memory.assign(static_cast<size_t>(count * 2 * plane), NAN);
    for (int64_t b = 0; b < count; ++b) {
      float* keys = memory.data() + 2 * b * plane;
      float* values = keys + plane;
      k.push_back(keys);
      v.push_back(values);
      for (int64_t j = b * size; j < std::min(kTokens, (b + 1) * size); ++j) {
        for (int64_t head = 0; head < kKvHeads; ++head) {
          for (int64_t d = 0; d < kDim; ++d) {
            const int64_t at = (j * kKvHeads + head) * kDim + d;
            keys[(head * kDim + d) * size + j - b * size] = input.k[at];
            values[(head * size + j - b * size) * kDim + d] = input.v[at];
          }
        }
      }
    }
  }
};

// Queries in chunks of `chunk`; `stats` may be null.
Floats Run(const CpuKernels& kernels, const Input& input, const Law& law, int64_t block_size,
           int64_t chunk, float* stats = nullptr) {
  const Blocks blocks(input, block_size);
  Floats out(input.q.size(), NAN);
  Floats scratch(static_cast<size_t>(AttentionScratch(kTokens)), NAN);
  for (int64_t t = 0; t < kTokens; t += chunk) {
    kernels.attention({.q = input.q.data() + t * kHeads * kDim,
                       .q_stride = kHeads * kDim,
                       .num_queries = std::min(chunk, kTokens - t),
                       .first_position = t,
                       .num_heads = kHeads,
                       .num_kv_heads = kKvHeads,
                       .head_dim = kDim,
                       .block_size = block_size,
                       .k_blocks = blocks.k.data(),
                       .k_head_stride = block_size * kDim,
                       .v_blocks = blocks.v.data(),
                       .v_head_stride = block_size * kDim,
                       .v_stride = kDim,
                       .scale = law.scale,
                       .softcap = law.softcap,
                       .window = law.window,
                       .out = out.data() + t * kHeads * kDim,
                       .out_stride = kHeads * kDim,
                       .stats = stats == nullptr ? nullptr : stats + t * kHeads * 2,
                       .scratch = scratch.data()});
  }
  return out;
}

TEST_CASE("Attention: windows, caps and scales match a sum in double", "[unit][model]") {
  const Input input = RandomInput();
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const Law& law : kLaws) {
      INFO(kernels->name << " cap " << law.softcap << " window " << law.window);
      const Floats out = Run(*kernels, input, law, 80, kTokens);
      for (int64_t t = 0; t < kTokens; ++t) {
        for (int64_t head = 0; head < kHeads; ++head) {
          const std::vector<double> want = Reference(input, law, t, head);
          for (int64_t d = 0; d < kDim; ++d) {
            REQUIRE(out[(t * kHeads + head) * kDim + d] == Approx(want[d]).margin(3e-6));
          }
        }
      }
    }
  }
}

TEST_CASE("Attention: blocks and chunks do not change a bit, with any window or cap",
          "[unit][model]") {
  const Input input = RandomInput();
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const Law& law : kLaws) {
      const Floats whole = Run(*kernels, input, law, 80, kTokens);
      for (const int64_t block_size : {1, 5, 16, 32, 37}) {
        for (const int64_t chunk : {1, 3, 32, 75}) {
          INFO(kernels->name << " cap " << law.softcap << " window " << law.window << " block "
                             << block_size << " chunk " << chunk);
          const Floats cut = Run(*kernels, input, law, block_size, chunk);
          REQUIRE(std::memcmp(cut.data(), whole.data(), whole.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

// Sum of dout * out, as the gradient's witness.
double Loss(const Input& input, const Law& law) {
  double loss = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t head = 0; head < kHeads; ++head) {
      const std::vector<double> out = Reference(input, law, t, head);
      for (int64_t d = 0; d < kDim; ++d) {
        loss += out[d] * input.dout[(t * kHeads + head) * kDim + d];
      }
    }
  }
  return loss;
}

double Slope(Input input, Floats Input::* member, size_t i, const Law& law) {
  const float before = (input.*member)[i];
  (input.*member)[i] = before + 0.01F;
  const double above = Loss(input, law);
  const double high = (input.*member)[i];
  (input.*member)[i] = before - 0.01F;
  return (above - Loss(input, law)) / (high - (input.*member)[i]);
}

TEST_CASE("AttentionGrad: windows and caps agree with finite differences", "[unit][model]") {
  const Input input = RandomInput();
  constexpr int64_t kGroup = kHeads / kKvHeads;
  for (const Law& law : kLaws) {
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      INFO(kernels->name << " cap " << law.softcap << " window " << law.window);
      Floats stats(static_cast<size_t>(kTokens * kHeads * 2));
      const Floats out = Run(*kernels, input, law, 80, kTokens, stats.data());
      Floats dq(input.q.size(), NAN);
      Floats dk(input.k.size(), 0.0F);
      Floats dv(input.v.size(), 0.0F);
      Floats scratch(static_cast<size_t>(AttentionGradScratch(kTokens, kDim)), NAN);
      for (int64_t head = 0; head < kKvHeads; ++head) {
        const int64_t q_at = head * kGroup * kDim;
        const int64_t kv_at = head * kDim;
        kernels->attention_grad({.q = input.q.data() + q_at,
                                 .out = out.data() + q_at,
                                 .dout = input.dout.data() + q_at,
                                 .dq = dq.data() + q_at,
                                 .q_stride = kHeads * kDim,
                                 .k = input.k.data() + kv_at,
                                 .v = input.v.data() + kv_at,
                                 .dk = dk.data() + kv_at,
                                 .dv = dv.data() + kv_at,
                                 .kv_stride = kKvHeads * kDim,
                                 .stats = stats.data() + 2 * head * kGroup,
                                 .stats_stride = 2 * kHeads,
                                 .num_tokens = kTokens,
                                 .group = kGroup,
                                 .head_dim = kDim,
                                 .scale = law.scale,
                                 .softcap = law.softcap,
                                 .window = law.window,
                                 .scratch = scratch.data()});
      }
      for (const float value : dq) REQUIRE(std::isfinite(value));
      // A few elements of each; a loss takes a whole forward in double.
      for (size_t i = 3; i < dk.size(); i += 397) {
        CHECK(dq[2 * i] == Approx(Slope(input, &Input::q, 2 * i, law)).margin(2e-3));
        CHECK(dk[i] == Approx(Slope(input, &Input::k, i, law)).margin(2e-3));
        CHECK(dv[i] == Approx(Slope(input, &Input::v, i, law)).margin(2e-3));
      }
    }
  }
}

}  // namespace
}  // namespace rollcall
