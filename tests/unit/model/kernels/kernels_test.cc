#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::vector<float> RandomValues(int64_t count, uint64_t seed, double deviation = 1.0) {
  CounterRandom random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(deviation * random.Normal());
  return values;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Machines without fused multiply-add round twice, so only the fused versions agree to the bit.
bool IsFused(const CpuKernels& kernels) { return std::string(kernels.name) != "portable"; }

struct LinearCase {
  int64_t rows, depth, outputs;
};

std::vector<float> RunLinear(const CpuKernels& kernels, const LinearCase& c,
                             const std::vector<float>& x, const std::vector<float>& w,
                             bool is_packed) {
  std::vector<float> y(static_cast<size_t>(c.rows * c.outputs), NAN);
  std::vector<float> packed;
  LinearArgs args{.x = x.data(),
                  .num_rows = c.rows,
                  .depth = c.depth,
                  .num_outputs = c.outputs,
                  .w = w.data(),
                  .packed = nullptr,
                  .y = y.data()};
  if (is_packed) {
    packed.resize(static_cast<size_t>(PackedSize(c.outputs, c.depth)));
    kernels.pack_linear(w.data(), c.outputs, c.depth, packed.data());
    args.packed = packed.data();
    args.w = nullptr;
  }
  kernels.linear(args);
  return y;
}

}  // namespace

TEST_CASE("Linear: matches a sum in double", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    for (const LinearCase& c :
         {LinearCase{1, 1, 1}, LinearCase{2, 7, 33}, LinearCase{13, 64, 96},
          LinearCase{3, 520, 130}, LinearCase{250, 9, 40}, LinearCase{5, 1030, 31}}) {
      const auto x = RandomValues(c.rows * c.depth, 1);
      const auto w = RandomValues(c.outputs * c.depth, 2);
      for (bool is_packed : {false, true}) {
        const auto y = RunLinear(*kernels, c, x, w, is_packed);
        double worst = 0;
        for (int64_t n = 0; n < c.rows; ++n) {
          for (int64_t o = 0; o < c.outputs; ++o) {
            double sum = 0;
            for (int64_t k = 0; k < c.depth; ++k) {
              sum += double{x[n * c.depth + k]} * double{w[o * c.depth + k]};
            }
            worst = std::max(worst, std::abs(sum - y[n * c.outputs + o]));
          }
        }
        // A sequential float sum of `depth` terms of size 1.
        CHECK(worst < 1e-6 * (10 + static_cast<double>(c.depth)));
      }
    }
  }
}

TEST_CASE("Linear: a row's bits depend on nothing but the row", "[unit][model]") {
  const LinearCase all{61, 530, 161};
  const auto x = RandomValues(all.rows * all.depth, 3);
  const auto w = RandomValues(all.outputs * all.depth, 4);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    const auto whole = RunLinear(*kernels, all, x, w, true);
    CHECK(SameBits(whole, RunLinear(*kernels, all, x, w, false)));
    if (IsFused(*kernels)) {
      CHECK(SameBits(whole, RunLinear(*AvailableCpuKernels().front(), all, x, w, true)));
    }
    for (int64_t rows : {1, 2, 3, 4, 5, 11, 12, 13, 25}) {
      for (bool is_packed : {false, true}) {
        for (int64_t first : {int64_t{0}, all.rows - rows}) {
          const std::vector<float> part_x(x.begin() + first * all.depth,
                                          x.begin() + (first + rows) * all.depth);
          const std::vector<float> wanted(whole.begin() + first * all.outputs,
                                          whole.begin() + (first + rows) * all.outputs);
          INFO("rows " << rows << " first " << first << " packed " << is_packed);
          CHECK(SameBits(
              wanted, RunLinear(*kernels, {rows, all.depth, all.outputs}, part_x, w, is_packed)));
        }
      }
    }
  }
}

TEST_CASE("Linear: no rows write nothing", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    CHECK(RunLinear(*kernels, {0, 8, 40}, {}, RandomValues(320, 1), true).empty());
    CHECK(RunLinear(*kernels, {0, 8, 40}, {}, RandomValues(320, 1), false).empty());
  }
}

TEST_CASE("RmsNorm: matches its definition for every width", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (int64_t width : {1, 8, 16, 24, 100}) {
      const auto x = RandomValues(3 * width, 5);
      const auto w = RandomValues(width, 6);
      std::vector<float> y(x.size());
      kernels->rms_norm({.x = x.data(),
                         .w = w.data(),
                         .num_rows = 3,
                         .width = width,
                         .eps = 1e-5,
                         .y = y.data()});
      for (int64_t n = 0; n < 3; ++n) {
        double square = 0;
        for (int64_t i = 0; i < width; ++i) square += double{x[n * width + i]} * x[n * width + i];
        const double inverse = 1 / std::sqrt(square / static_cast<double>(width) + 1e-5);
        for (int64_t i = 0; i < width; ++i) {
          CHECK(y[n * width + i] == Approx(x[n * width + i] * inverse * w[i]).epsilon(1e-5));
        }
      }
    }
  }
}

TEST_CASE("Swiglu: exponentials are right to 3e-7 and the same in every lane", "[unit][model]") {
  std::vector<float> gate;
  for (float g = -90; g < 90; g += 0.0137F) gate.push_back(g);
  gate.insert(gate.end(), {0.0F, -0.0F, 200.0F, -200.0F});
  const std::vector<float> up(gate.size(), 1.0F);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    std::vector<float> y(gate.size());
    kernels->activate({.gate = gate.data(),
                       .up = up.data(),
                       .size = static_cast<int64_t>(gate.size()),
                       .y = y.data()});
    double worst = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double wanted = gate[i] / (1 + std::exp(-double{gate[i]}));
      worst = std::max(worst, std::abs(y[i] - wanted) / (std::abs(wanted) + 1e-30));
    }
    // Beyond -87 the result is below 1e-35 and only its smallness counts.
    CHECK(worst < 1.0);
    double worst_normal = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      if (gate[i] < -80 || gate[i] == 0) continue;
      const double wanted = gate[i] / (1 + std::exp(-double{gate[i]}));
      worst_normal = std::max(worst_normal, std::abs(y[i] - wanted) / std::abs(wanted));
    }
    CHECK(worst_normal < 4e-7);  // the exponential, an addition, a division and a product
    for (size_t i = 0; i < gate.size(); i += 37) {
      float alone = NAN;
      kernels->activate({.gate = &gate[i], .up = &up[i], .size = 1, .y = &alone});
      CHECK(std::memcmp(&alone, &y[i], sizeof(float)) == 0);
    }
  }
}

TEST_CASE("LogSoftmax: matches double, with entropy, for any temperature", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    INFO(kernels->name);
    for (int64_t width : {1, 5, 16, 257, 1000}) {
      for (double temperature : {0.5, 1.0, 1.7}) {
        const auto logits = RandomValues(width, 7, 5.0);
        const auto inverse = static_cast<float>(1 / temperature);
        double max = -1e300;
        for (float l : logits) max = std::max(max, double{l} * double{inverse});
        double sum = 0;
        for (float l : logits) sum += std::exp(double{l} * double{inverse} - max);
        const double lse = max + std::log(sum);
        double entropy = 0;
        const LogSoftmaxStats stats = kernels->log_softmax_stats(logits.data(), width, inverse);
        std::vector<float> out(logits.size());
        kernels->log_softmax_write(logits.data(), width, inverse, stats, out.data());
        for (size_t i = 0; i < logits.size(); ++i) {
          const double logp = double{logits[i]} * double{inverse} - lse;
          entropy -= std::exp(logp) * logp;
          CHECK(out[i] == Approx(logp).margin(3e-6));
        }
        CHECK(stats.entropy == Approx(entropy).margin(1e-5));
      }
    }
  }
}

TEST_CASE("LogSoftmax: a masked logit has probability zero", "[unit][model]") {
  const float lowest = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {1.0F, lowest, 1.0F};
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    const LogSoftmaxStats stats = kernels->log_softmax_stats(logits.data(), 3, 1.0F);
    std::vector<float> out(3);
    kernels->log_softmax_write(logits.data(), 3, 1.0F, stats, out.data());
    CHECK(out[0] == Approx(-std::log(2.0)));
    CHECK(out[1] == lowest);
    CHECK(stats.entropy == Approx(std::log(2.0)));
  }
}

TEST_CASE("Kernels: fused versions agree to the bit", "[unit][model]") {
  const auto x = RandomValues(40 * 100, 8, 3.0);
  const auto w = RandomValues(100, 9);
  std::vector<std::vector<float>> results;
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    if (!IsFused(*kernels)) continue;
    std::vector<float> all(x.size());
    kernels->rms_norm(
        {.x = x.data(), .w = w.data(), .num_rows = 40, .width = 100, .eps = 1e-6, .y = all.data()});
    kernels->activate({.gate = all.data(), .up = x.data(), .size = 4000, .y = all.data()});
    const LogSoftmaxStats stats = kernels->log_softmax_stats(all.data(), 3999, 0.9F);
    kernels->log_softmax_write(all.data(), 4000, 0.9F, stats, all.data());
    all.push_back(stats.entropy);
    results.push_back(all);
  }
  for (const auto& result : results) CHECK(SameBits(result, results.front()));
}

}  // namespace rollcall
