// int8 products against their law, in integers, on every instruction set.
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

struct LinearCase {
  int64_t rows, depth, outputs;
};

Floats RandomValues(int64_t count, uint64_t seed) {
  CounterRandom random(seed);
  Floats values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.Normal());
  return values;
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Steps of a row and the size of one, as kernels/linear.h says.
struct QuantizedRow {
  std::vector<int> steps;
  float scale = 0;
};

QuantizedRow Quantize(const float* x, int64_t width) {
  float max = 0;
  for (int64_t i = 0; i < width; ++i) max = std::max(max, std::abs(x[i]));
  QuantizedRow row;
  row.scale = max * (1.0F / 127.0F);
  for (int64_t i = 0; i < width; ++i) {
    const float steps = max > 0 ? x[i] * (127.0F / max) : 0.0F;
    row.steps.push_back(static_cast<int>(std::nearbyint(steps)));
  }
  return row;
}

Floats Reference(const LinearCase& c, const Floats& x, const Floats& w, const Floats& bias) {
  Floats y;
  for (int64_t n = 0; n < c.rows; ++n) {
    const QuantizedRow row = Quantize(x.data() + n * c.depth, c.depth);
    for (int64_t o = 0; o < c.outputs; ++o) {
      const QuantizedRow column = Quantize(w.data() + o * c.depth, c.depth);
      int64_t sum = 0;
      for (int64_t k = 0; k < c.depth; ++k) sum += int64_t{row.steps[k]} * column.steps[k];
      const float scaled = static_cast<float>(sum) * row.scale;
      y.push_back(scaled * column.scale + bias[o]);
    }
  }
  return y;
}

Floats Run(const CpuKernels& kernels, const LinearCase& c, const Floats& x, const Floats& w,
           const Floats& bias) {
  std::vector<Int8Quad> quads(static_cast<size_t>(c.rows * NumInt8Quads(c.depth)), 7);
  Floats scales(static_cast<size_t>(c.rows));
  kernels.quantize_rows(x.data(), c.rows, c.depth, quads.data(), scales.data());
  std::vector<Int8Quad> packed(static_cast<size_t>(Int8PackedSize(c.outputs, c.depth)));
  kernels.pack_linear_int8(w.data(), c.outputs, c.depth, packed.data());
  Floats y(static_cast<size_t>(c.rows * c.outputs), NAN);
  kernels.linear_int8({.x = quads.data(),
                       .x_scales = scales.data(),
                       .num_rows = c.rows,
                       .depth = c.depth,
                       .num_outputs = c.outputs,
                       .packed = packed.data(),
                       .bias = bias.data(),
                       .y = y.data()});
  return y;
}

TEST_CASE("Int8: a product is that of the rounded steps, bit for bit", "[unit][model]") {
  for (const LinearCase& c :
       {LinearCase{1, 1, 1}, LinearCase{2, 7, 33}, LinearCase{13, 64, 96}, LinearCase{3, 521, 130},
        LinearCase{250, 9, 40}, LinearCase{5, 4100, 31}, LinearCase{1, 1100, 300},
        LinearCase{12, 2051, 161}, LinearCase{0, 8, 40}}) {
    const Floats x = RandomValues(c.rows * c.depth, 1);
    const Floats w = RandomValues(c.outputs * c.depth, 2);
    const Floats bias = RandomValues(c.outputs, 3);
    const Floats want = Reference(c, x, w, bias);
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      INFO(kernels->name << " rows " << c.rows << " depth " << c.depth << " outputs " << c.outputs);
      CHECK(SameBits(Run(*kernels, c, x, w, bias), want));
    }
  }
}

TEST_CASE("Int8: the largest sums of the deepest matrix do not overflow", "[unit][model]") {
  const LinearCase c{1, kInt8MaxDepth, 2};
  Floats w(static_cast<size_t>(2 * c.depth), 1.0F);
  std::fill(w.begin() + c.depth, w.end(), -1.0F);
  const Floats x(static_cast<size_t>(c.depth), -2.0F);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    const Floats y = Run(*kernels, c, x, w, {0.0F, 0.0F});
    CHECK(y[0] == Approx(-2.0 * kInt8MaxDepth));
    CHECK(y[1] == Approx(2.0 * kInt8MaxDepth));
  }
}

TEST_CASE("Int8: the error is that of half a step on either side", "[unit][model]") {
  const LinearCase c{8, 256, 64};
  const Floats x = RandomValues(c.rows * c.depth, 4);
  const Floats w = RandomValues(c.outputs * c.depth, 5);
  const Floats y = Run(*AvailableCpuKernels().front(), c, x, w, Floats(64, 0.0F));
  double square = 0;
  double difference = 0;
  for (int64_t n = 0; n < c.rows; ++n) {
    for (int64_t o = 0; o < c.outputs; ++o) {
      double sum = 0;
      for (int64_t k = 0; k < c.depth; ++k) {
        sum += double{x[n * c.depth + k]} * double{w[o * c.depth + k]};
      }
      square += sum * sum;
      difference += (sum - y[n * c.outputs + o]) * (sum - y[n * c.outputs + o]);
    }
  }
  // A step is about 3/127 of the deviation, its rounding 1/sqrt(12) of it, twice.
  CHECK(std::sqrt(difference / square) < 0.015);
  CHECK(std::sqrt(difference / square) > 0.002);
}

TEST_CASE("Int8: rows of zeros are zero, rows that are not finite are not numbers",
          "[unit][model]") {
  const LinearCase c{3, 40, 33};
  Floats x = RandomValues(c.rows * c.depth, 6);
  std::fill(x.begin(), x.begin() + c.depth, 0.0F);
  x[c.depth + 17] = std::numeric_limits<float>::infinity();
  x[2 * c.depth + 39] = std::nanf("");
  const Floats w = RandomValues(c.outputs * c.depth, 7);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    const Floats y = Run(*kernels, c, x, w, Floats(33, 0.0F));
    for (int64_t o = 0; o < c.outputs; ++o) {
      CHECK(y[o] == 0.0F);
      CHECK(std::isnan(y[c.outputs + o]));
      CHECK(std::isnan(y[2 * c.outputs + o]));
    }
  }
}

TEST_CASE("Int8: a row's bits depend on nothing but the row", "[unit][model]") {
  const LinearCase all{30, 530, 161};
  const Floats x = RandomValues(all.rows * all.depth, 8);
  const Floats w = RandomValues(all.outputs * all.depth, 9);
  const Floats bias = RandomValues(all.outputs, 10);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    const Floats whole = Run(*kernels, all, x, w, bias);
    for (const int64_t rows : {1, 2, 3, 4, 12, 13, 25}) {
      INFO(kernels->name << " rows " << rows);
      const Floats part(x.begin(), x.begin() + rows * all.depth);
      const Floats want(whole.begin(), whole.begin() + rows * all.outputs);
      CHECK(SameBits(Run(*kernels, {rows, all.depth, all.outputs}, part, w, bias), want));
    }
  }
}

}  // namespace
}  // namespace rollcall
