// bfloat16 kernels against their law: float32 of rounded inputs, bit for bit, on every instruction
// set.
#include "services/model/kernels/bfloat16.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Floats = std::vector<float>;

float FromBits(uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

uint32_t BitsOf(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

Floats RandomValues(int64_t count, uint64_t seed) {
  CounterRandom random(seed);
  Floats values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.Normal());
  return values;
}

Floats Rounded(const CpuKernels& kernels, const Floats& x) {
  Floats y(x.size());
  kernels.round_values(x.data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_CASE("BFloat16: rounds to the nearest, ties to even, and keeps what is not a number",
          "[unit][model]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<uint32_t, uint32_t>> cases = {
      {0x3f800000, 0x3f800000},  // 1
      {0x3f808000, 0x3f800000},  // a tie goes down to the even one
      {0x3f818000, 0x3f820000},  // and up to it
      {0x3f808001, 0x3f810000},  // just above a tie
      {0x3f807fff, 0x3f800000},  // just below
      {0xbf818000, 0xbf820000},  // the same below zero
      {0x80000000, 0x80000000},  // -0
      {0x00008001, 0x00010000},  // subnormal numbers too
      {0x7f7fffff, 0x7f800000},  // beyond the largest
      {BitsOf(infinity), BitsOf(infinity)},
      {BitsOf(-infinity), BitsOf(-infinity)}};
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    for (const auto& [from, to] : cases) {
      CHECK(BitsOf(Rounded(*kernels, {FromBits(from)})[0]) == to);
    }
    // Quiet, and with a payload that rounding must not lose or carry away.
    for (const uint32_t nan : {0x7fc00000U, 0x7f800001U, 0x7fffffffU, 0xffffffffU}) {
      CHECK(std::isnan(Rounded(*kernels, {FromBits(nan)})[0]));
    }
    const Floats x = RandomValues(1000, 1);
    const Floats y = Rounded(*kernels, x);
    for (size_t i = 0; i < x.size(); ++i) {
      REQUIRE((BitsOf(y[i]) & 0xffffU) == 0);
      const float below = FromBits(BitsOf(x[i]) & 0xffff0000U);
      const float above = FromBits((BitsOf(x[i]) & 0xffff0000U) + 0x10000U);
      REQUIRE(std::abs(y[i] - x[i]) == std::min(std::abs(below - x[i]), std::abs(above - x[i])));
    }
  }
}

TEST_CASE("BFloat16: pairs hold neighbours, the first in the upper half", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const int64_t width : {1, 2, 31, 32, 33, 70}) {
      INFO(kernels->name << " width " << width);
      const Floats x = RandomValues(3 * width, 2);
      const Floats rounded = Rounded(*kernels, x);
      const int64_t num_pairs = NumBf16Pairs(width);
      std::vector<Bf16Pair> pairs(static_cast<size_t>(3 * num_pairs), 7);
      kernels->round_rows(x.data(), 3, width, pairs.data());
      for (int64_t n = 0; n < 3; ++n) {
        for (int64_t i = 0; i < num_pairs; ++i) {
          const Bf16Pair pair = pairs[n * num_pairs + i];
          CHECK((pair & 0xffff0000U) == BitsOf(rounded[n * width + 2 * i]));
          const bool has_second = 2 * i + 1 < width;
          CHECK(pair << 16 == (has_second ? BitsOf(rounded[n * width + 2 * i + 1]) : 0));
        }
      }
    }
  }
}

struct LinearCase {
  int64_t rows, depth, outputs;
};

Floats RunBf16(const CpuKernels& kernels, const LinearCase& c, const Floats& x, const Floats& w,
               const Floats& bias, bool is_packed) {
  std::vector<Bf16Pair> pairs(static_cast<size_t>(c.rows * NumBf16Pairs(c.depth)));
  kernels.round_rows(x.data(), c.rows, c.depth, pairs.data());
  std::vector<Bf16Pair> packed;
  Floats y(static_cast<size_t>(c.rows * c.outputs), NAN);
  Bf16LinearArgs args{.x = pairs.data(),
                      .num_rows = c.rows,
                      .depth = c.depth,
                      .num_outputs = c.outputs,
                      .w = w.data(),
                      .bias = bias.data(),
                      .y = y.data()};
  if (is_packed) {
    packed.resize(static_cast<size_t>(Bf16PackedSize(c.outputs, c.depth)));
    kernels.pack_linear_bf16(w.data(), c.outputs, c.depth, packed.data());
    args.packed = packed.data();
    args.w = nullptr;
  }
  kernels.linear_bf16(args);
  return y;
}

TEST_CASE("BFloat16: a product is float32's of rounded inputs, bit for bit", "[unit][model]") {
  const CpuKernels& best = *AvailableCpuKernels().front();
  for (const LinearCase& c :
       {LinearCase{1, 1, 1}, LinearCase{2, 7, 33}, LinearCase{13, 64, 96}, LinearCase{3, 521, 130},
        LinearCase{250, 9, 40}, LinearCase{5, 2051, 31}, LinearCase{1, 1100, 300},
        LinearCase{12, 1026, 161}, LinearCase{0, 8, 40}}) {
    const Floats x = RandomValues(c.rows * c.depth, 1);
    const Floats w = RandomValues(c.outputs * c.depth, 2);
    const Floats bias = RandomValues(c.outputs, 3);
    Floats want(static_cast<size_t>(c.rows * c.outputs));
    const Floats x_rounded = Rounded(best, x);
    const Floats w_rounded = Rounded(best, w);
    best.linear({.x = x_rounded.data(),
                 .num_rows = c.rows,
                 .depth = c.depth,
                 .num_outputs = c.outputs,
                 .w = w_rounded.data(),
                 .bias = bias.data(),
                 .y = want.data()});
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      for (const bool is_packed : {false, true}) {
        INFO(kernels->name << " rows " << c.rows << " depth " << c.depth << " outputs " << c.outputs
                           << " packed " << is_packed);
        CHECK(SameBits(RunBf16(*kernels, c, x, w, bias, is_packed), want));
      }
    }
  }
}

TEST_CASE("BFloat16: a row's bits depend on nothing but the row", "[unit][model]") {
  const LinearCase all{30, 530, 161};
  const Floats x = RandomValues(all.rows * all.depth, 3);
  const Floats w = RandomValues(all.outputs * all.depth, 4);
  const Floats bias = RandomValues(all.outputs, 5);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    const Floats whole = RunBf16(*kernels, all, x, w, bias, true);
    for (const int64_t rows : {1, 2, 3, 4, 11, 12, 13, 25}) {
      for (const int64_t first : {int64_t{0}, all.rows - rows}) {
        INFO(kernels->name << " rows " << rows << " first " << first);
        const Floats part(x.begin() + first * all.depth, x.begin() + (first + rows) * all.depth);
        const Floats want(whole.begin() + first * all.outputs,
                          whole.begin() + (first + rows) * all.outputs);
        const LinearCase c{rows, all.depth, all.outputs};
        CHECK(SameBits(RunBf16(*kernels, c, part, w, bias, true), want));
      }
    }
  }
}

// Keys and values of one sequence in one block, as floats or pairs.
struct KvBlock {
  Floats k, v;
  const float* k_blocks = nullptr;
  const float* v_blocks = nullptr;
};

TEST_CASE("BFloat16: attention is float32's of rounded keys and values, bit for bit",
          "[unit][model]") {
  constexpr int64_t kTokens = 75;
  constexpr int64_t kHeads = 4;
  constexpr int64_t kKvHeads = 2;
  for (const int64_t dim : {8, 10, 17, 32, 50, 64, 128}) {
    const Floats q = RandomValues(kTokens * kHeads * dim, 6);
    const Floats k = RandomValues(kTokens * kKvHeads * dim, 7);
    const Floats v = RandomValues(kTokens * kKvHeads * dim, 8);
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      for (const int64_t block_size : {80, 77}) {
        const auto run = [&](bool is_bf16) {
          const int64_t lanes = is_bf16 ? NumBf16Pairs(dim) : dim;
          const Floats k_rounded = Rounded(*kernels, k);
          const Floats v_rounded = Rounded(*kernels, v);
          KvBlock block;
          block.k.assign(static_cast<size_t>(kKvHeads * lanes * block_size), NAN);
          block.v.assign(static_cast<size_t>(kKvHeads * lanes * block_size), NAN);
          Floats rows(static_cast<size_t>(kTokens * kKvHeads * lanes));
          if (is_bf16) {
            kernels->round_rows(k.data(), kTokens * kKvHeads, dim,
                                reinterpret_cast<Bf16Pair*>(rows.data()));
          } else {
            rows = k_rounded;
          }
          kernels->transpose(rows.data(), kKvHeads * lanes, kKvHeads * lanes, kTokens,
                             block.k.data(), block_size);
          for (int64_t t = 0; t < kTokens; ++t) {
            for (int64_t head = 0; head < kKvHeads; ++head) {
              float* to = block.v.data() + (head * block_size + t) * lanes;
              const int64_t from = (t * kKvHeads + head) * dim;
              if (is_bf16) {
                kernels->pair_halves(v.data() + from, dim, reinterpret_cast<Bf16Pair*>(to));
              } else {
                std::copy_n(v_rounded.data() + from, dim, to);
              }
            }
          }
          block.k_blocks = block.k.data();
          block.v_blocks = block.v.data();
          Floats out(q.size(), NAN);
          Floats scratch(static_cast<size_t>(AttentionScratch(kTokens)));
          const auto attend = is_bf16 ? kernels->attention_bf16 : kernels->attention;
          // A prefill, and then tokens one by one.
          for (int64_t t = 0; t < kTokens; t += t == 0 ? 60 : 1) {
            attend({.q = q.data() + t * kHeads * dim,
                    .q_stride = kHeads * dim,
                    .num_queries = t == 0 ? 60 : 1,
                    .first_position = t,
                    .num_heads = kHeads,
                    .num_kv_heads = kKvHeads,
                    .head_dim = dim,
                    .block_size = block_size,
                    .k_blocks = &block.k_blocks,
                    .k_head_stride = block_size * lanes,
                    .v_blocks = &block.v_blocks,
                    .v_head_stride = block_size * lanes,
                    .v_stride = lanes,
                    .scale = 0.3F,
                    .window = 40,
                    .out = out.data() + t * kHeads * dim,
                    .out_stride = kHeads * dim,
                    .scratch = scratch.data()});
          }
          return out;
        };
        INFO(kernels->name << " dim " << dim << " block " << block_size);
        const Floats want = run(false);
        for (const float x : want) REQUIRE(std::isfinite(x));
        CHECK(SameBits(run(true), want));
      }
    }
  }
}

}  // namespace
}  // namespace rollcall
