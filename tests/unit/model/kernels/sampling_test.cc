#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::vector<float> RandomRow(int64_t width, uint64_t key) {
  CounterRandom random(key);
  std::vector<float> row(static_cast<size_t>(width));
  for (float& x : row) x = static_cast<float>(4 * random.Normal());
  return row;
}

bool SameBits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

}  // namespace

TEST_CASE("Masses: sums by block, with the statistics of the log-softmax", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const int64_t width : {1, 15, 16, 255, 256, 257, 1000, 4096}) {
      const std::vector<float> row = RandomRow(width, static_cast<uint64_t>(width));
      std::vector<float> sums(static_cast<size_t>((width + kMassBlock - 1) / kMassBlock));
      const MassSums result = kernels->mass_sums(row.data(), width, 0.7F, sums.data());
      const LogSoftmaxStats stats = kernels->log_softmax_stats(row.data(), width, 0.7F);
      CHECK(SameBits(result.stats.max, stats.max));
      CHECK(SameBits(result.stats.log_sum, stats.log_sum));
      CHECK(SameBits(result.stats.entropy, stats.entropy));
      CHECK(result.max_logit == *std::max_element(row.begin(), row.end()));
      CHECK(result.all_finite);
      std::vector<float> masses(row.size());
      kernels->masses(row.data(), width, 0.7F, stats.max, masses.data());
      for (size_t b = 0; b < sums.size(); ++b) {
        double sum = 0;
        for (size_t i = b * kMassBlock; i < std::min(row.size(), (b + 1) * kMassBlock); ++i) {
          const double exact = std::exp(static_cast<double>(row[i] * 0.7F - stats.max));
          CHECK(masses[i] == Approx(exact).epsilon(1e-6));
          sum += static_cast<double>(masses[i]);
        }
        CHECK(sums[b] == Approx(sum).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("Masses: a logit that is no finite number is noticed, wherever it is", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const size_t place : {0UL, 15UL, 16UL, 299UL}) {
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
            -std::numeric_limits<float>::infinity()}) {
        std::vector<float> row = RandomRow(300, 3);
        row[place] = bad;
        std::vector<float> sums(2);
        CHECK(!kernels->mass_sums(row.data(), 300, 1.0F, sums.data()).all_finite);
      }
    }
  }
}

TEST_CASE("Masses: what lies above a bound is counted, added up and listed", "[unit][model]") {
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const int64_t width : {1, 16, 31, 700}) {
      const std::vector<float> row = RandomRow(width, static_cast<uint64_t>(width) + 9);
      const std::vector<float> masses = RandomRow(width, 5);
      for (const float bound : {-std::numeric_limits<float>::infinity(), -3.0F, row[0], 100.0F}) {
        std::vector<int32_t> expected;
        double mass = 0;
        for (size_t i = 0; i < row.size(); ++i) {
          if (row[i] < bound) continue;
          expected.push_back(static_cast<int32_t>(i));
          mass += static_cast<double>(masses[i]);
        }
        const MassAtLeast above = kernels->mass_at_least(row.data(), masses.data(), width, bound);
        CHECK(above.count == static_cast<int64_t>(expected.size()));
        CHECK(above.mass == Approx(mass).margin(1e-3));
        std::vector<int32_t> found(row.size());
        found.resize(
            static_cast<size_t>(kernels->select_at_least(row.data(), width, bound, found.data())));
        CHECK(found == expected);
      }
    }
  }
}

}  // namespace rollcall
