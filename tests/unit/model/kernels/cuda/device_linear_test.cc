// The device's matrix product in the order of k: the same bits as the CPU's.
#include "services/model/kernels/cpu_kernels.h"
#include "tests/unit/model/kernels/cuda/device_test.h"

namespace rollcall {
namespace {

struct Problem {
  int64_t rows, depth, outputs;
  Floats x, w, bias;
};

Problem RandomProblem(CounterRandom& random, int64_t rows, int64_t depth, int64_t outputs) {
  return {rows,
          depth,
          outputs,
          RandomFloats(random, rows * depth),
          RandomFloats(random, outputs * depth),
          RandomFloats(random, outputs)};
}

// Fused on every machine, as the GPU does it: the CPU's kernels are only where it can.
Floats InOrder(const Problem& problem, const float* bias) {
  Floats y;
  for (int64_t n = 0; n < problem.rows; ++n) {
    for (int64_t o = 0; o < problem.outputs; ++o) {
      float sum = 0;
      for (int64_t k = 0; k < problem.depth; ++k) {
        sum = std::fma(problem.x[n * problem.depth + k], problem.w[o * problem.depth + k], sum);
      }
      y.push_back(bias == nullptr ? sum : sum + bias[o]);
    }
  }
  return y;
}

Floats OnDevice(const Problem& problem, const float* bias, const uint16_t* bf16_weights) {
  Floats y(problem.rows * problem.outputs, NAN);
  REQUIRE(kEmulatedKernels.linear(
              {.x = problem.x.data(),
               .num_rows = problem.rows,
               .depth = problem.depth,
               .num_outputs = problem.outputs,
               .w = bf16_weights != nullptr ? static_cast<const void*>(bf16_weights)
                                            : static_cast<const void*>(problem.w.data()),
               .w_dtype = bf16_weights != nullptr ? DeviceDType::kBf16 : DeviceDType::kF32,
               .bias = bias,
               .y = y.data()},
              nullptr) == 0);
  return y;
}

TEST_CASE("Device linear: one fused sum in the order of k, for any shape", "[unit][model]") {
  CounterRandom random(11);
  for (int round = 0; round < 30; ++round) {
    const auto rows = static_cast<int64_t>(1 + random.Below(round % 2 == 0 ? 16 : 140));
    const auto depth = static_cast<int64_t>(1 + random.Below(70));
    const auto outputs = static_cast<int64_t>(1 + random.Below(150));
    INFO(rows << " x " << depth << " x " << outputs);
    const Problem problem = RandomProblem(random, rows, depth, outputs);
    const float* bias = round % 3 == 0 ? problem.bias.data() : nullptr;
    const EmulatorOrder order(kOrders[round % 3], static_cast<uint64_t>(round));
    CHECK(SameBits(OnDevice(problem, bias, nullptr), InOrder(problem, bias)));
  }
}

TEST_CASE("Device linear: the same bits as the CPU's kernels", "[unit][model]") {
  CounterRandom random(12);
  if (std::string(BestCpuKernels().name) == "portable") return;  // not fused there
  for (const int64_t rows : {1, 5, 33}) {
    const Problem problem = RandomProblem(random, rows, 200, 65);
    Floats want(rows * 65, NAN);
    BestCpuKernels().linear({.x = problem.x.data(),
                             .num_rows = rows,
                             .depth = 200,
                             .num_outputs = 65,
                             .w = problem.w.data(),
                             .bias = problem.bias.data(),
                             .y = want.data()});
    CHECK(SameBits(OnDevice(problem, problem.bias.data(), nullptr), want));
  }
}

TEST_CASE("Device linear: with bfloat16 weights the input is rounded, the sum is not",
          "[unit][model]") {
  CounterRandom random(13);
  for (const int64_t rows : {3, 70}) {
    Problem problem = RandomProblem(random, rows, 100, 40);
    const std::vector<uint16_t> weights = Bf16sOf(problem.w);
    const Floats got = OnDevice(problem, problem.bias.data(), weights.data());
    problem.x = Rounded(problem.x);
    problem.w = Rounded(problem.w);
    CHECK(SameBits(got, InOrder(problem, problem.bias.data())));
  }
}

}  // namespace
}  // namespace rollcall
