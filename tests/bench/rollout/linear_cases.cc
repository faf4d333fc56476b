#include "tests/bench/rollout/linear_cases.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>

#include "services/base/runtime/thread_team.h"
#include "services/model/layers/compute.h"
#include "services/model/layers/forward.h"
#include "services/model/layers/ops.h"
#include "services/model/tensor.h"

namespace rollcall {
namespace {

constexpr int kRounds = 15;
constexpr double kFlopsPerRound = 4e8;

template <typename Work>
double Gflops(double flops, const Work& work) {
  const int repeats = std::max(1, static_cast<int>(kFlopsPerRound / flops));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) work();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return 1e-9 * flops * repeats / seconds.count();
}

}  // namespace

Status RunLinear(const LinearCase& shape) {
  return GuardExceptions("timing linear layers", [&] {
    const at::NoGradGuard no_grad;
    at::set_num_threads(shape.num_threads);
    ThreadTeam team(shape.num_threads);
    const Compute compute{.team = &team, .precision = shape.precision};
    const at::Tensor x_NK = at::randn({shape.num_rows, shape.depth});
    const at::Tensor w_OK = at::randn({shape.num_outputs, shape.depth});
    const at::Tensor packed = forward::Pack(w_OK, shape.precision, Quantization::kNone);
    const auto type = shape.precision == Precision::kBFloat16 ? at::kBFloat16 : at::kFloat;
    const at::Tensor their_x_NK = x_NK.to(type);
    const at::Tensor their_w_OK = w_OK.to(type);
    const double flops = 2.0 * static_cast<double>(shape.num_rows * shape.depth) *
                         static_cast<double>(shape.num_outputs);
    double ours = 0;
    double theirs = 0;
    for (int round = 0; round < kRounds; ++round) {
      ours = std::max(ours, Gflops(flops, [&] { ops::Linear(x_NK, w_OK, {}, packed, compute); }));
      theirs = std::max(theirs, Gflops(flops, [&] { at::linear(their_x_NK, their_w_OK); }));
    }
    std::printf("{\"ours\": %.3f, \"at_linear\": %.3f}\n", ours, theirs);
    return OkStatus();
  });
}

}  // namespace rollcall
