// Hidden: build/<dir>/tests/model_bench "[.bench]". Prints, gates nothing.
#include <chrono>
#include <cstdio>
#include <numeric>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/sum.h>

#include "services/model/decoder/decoder.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch_torch.h"

namespace rollcall {
namespace {

// Fastest of several rounds, in seconds.
template <typename Fn>
double Time(Fn&& fn) {
  double best = 1e9;
  for (int round = 0; round < 7; ++round) {
    const auto start = std::chrono::steady_clock::now();
    fn();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

TEST_CASE("bench: linear", "[.bench]") {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  for (const auto& [n, k, o] : {std::tuple<int64_t, int64_t, int64_t>{1, 256, 704},
                                {1, 512, 1408},
                                {8, 256, 704},
                                {64, 256, 256},
                                {64, 256, 704},
                                {64, 704, 256},
                                {64, 512, 8192},
                                {8, 512, 8192},
                                {16, 512, 32768},
                                {1, 512, 32768},
                                {512, 256, 704},
                                {1024, 512, 1408},
                                {2048, 512, 8192},
                                {1024, 1024, 1024}}) {
    const at::Tensor x = at::rand({n, k});
    const at::Tensor w = at::rand({o, k});
    const at::Tensor dy = at::rand({n, o});
    at::Tensor y = at::rand({n, o});
    at::Tensor packed = at::rand({PackedSize(o, k)});
    const double gflop = 2e-9 * static_cast<double>(n * k * o);
    const int repeats = std::max<int>(1, static_cast<int>(0.2 / gflop));
    std::printf("N %5ld K %5ld O %5ld  at::linear %6.1f", n, k, o, gflop * repeats / Time([&] {
                                                                     for (int i = 0; i < repeats;
                                                                          ++i)
                                                                       y = at::linear(x, w);
                                                                   }));
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      kernels->pack_linear(w.const_data_ptr<float>(), o, k, packed.mutable_data_ptr<float>());
      LinearArgs args{.x = x.const_data_ptr<float>(),
                      .num_rows = n,
                      .depth = k,
                      .num_outputs = o,
                      .w = w.const_data_ptr<float>(),
                      .packed = packed.const_data_ptr<float>(),
                      .y = y.mutable_data_ptr<float>()};
      const double packed_rate = gflop * repeats / Time([&] {
                                   for (int i = 0; i < repeats; ++i) kernels->linear(args);
                                 });
      args.packed = nullptr;
      const double plain_rate = gflop * repeats / Time([&] {
                                  for (int i = 0; i < repeats; ++i) kernels->linear(args);
                                });
      std::printf("  %s %6.1f / %6.1f", kernels->name, packed_rate, plain_rate);
    }
    const double dx = Time([&] {
      for (int i = 0; i < repeats; ++i) at::mm(dy, w);
    });
    const double dw = Time([&] {
      for (int i = 0; i < repeats; ++i) at::mm(dy.t(), x);
    });
    std::printf("  dx %6.1f dw %6.1f GFLOP/s\n", gflop * repeats / dx, gflop * repeats / dw);
  }
}

TEST_CASE("bench: decode and train", "[.bench]") {
  at::set_num_threads(1);
  for (const auto& [hidden, layers, vocab] :
       {std::tuple<int64_t, int64_t, int64_t>{128, 4, 256}, {256, 4, 512}, {512, 8, 8192}}) {
    ModelConfig config;
    config.vocab_size = vocab;
    config.hidden_size = hidden;
    config.intermediate_size = hidden * 11 / 4;
    config.num_layers = layers;
    config.num_heads = 4;
    config.num_kv_heads = 4;
    config.head_dim = hidden / 4;
    config.max_positions = 1024;
    auto weights = AllocateWeights(config, Head::kLanguageModel, Gradients::kAccumulate);
    REQUIRE_OK(weights.status());
    REQUIRE_OK(InitializeWeights(1, &*weights));
    auto packed = PackWeights(*weights);
    REQUIRE_OK(packed.status());
    std::printf("d %ld, %ld layers, vocabulary %ld, %.1f M parameters\n", hidden, layers, vocab,
                1e-6 * static_cast<double>(NumParameters(config)));
    for (int batch : {1, 8, 64}) {
      const at::NoGradGuard no_grad;
      const int context = 128;
      const int per_sequence = context / 16 + 1;
      std::vector<float> memory(static_cast<size_t>(batch * per_sequence * layers * 2 * 16) *
                                static_cast<size_t>(hidden));
      const KvPool pool{memory.data(), batch * per_sequence, 16};
      std::vector<std::vector<int32_t>> tables(batch, std::vector<int32_t>(per_sequence));
      std::vector<PagedSequence> sequences;
      for (int b = 0; b < batch; ++b) {
        std::iota(tables[b].begin(), tables[b].end(), b * per_sequence);
        sequences.push_back({tables[b], context, 1});
      }
      const std::vector<int32_t> ids(batch, 3);
      const std::vector<int32_t> positions(batch, context);
      const double seconds = Time([&] {
        auto attention = MakePagedAttention(config, pool, sequences);
        auto hidden_NE = DecoderHidden(*weights, packed->get(), ids, positions, *attention);
        REQUIRE_OK(hidden_NE.status());
        REQUIRE_OK(Logits(*weights, packed->get(), *hidden_NE).status());
      });
      std::printf("  decode batch %2d: %8.3f ms, %9.0f tok/s\n", batch, 1e3 * seconds,
                  batch / seconds);
    }
    const int num_sequences = 64;
    const int length = 48;
    std::vector<int32_t> starts;
    std::vector<int32_t> positions;
    std::vector<int32_t> ids;
    for (int s = 0; s <= num_sequences; ++s) starts.push_back(s * length);
    for (int i = 0; i < num_sequences * length; ++i) {
      positions.push_back(i % length);
      ids.push_back(i * 7 % static_cast<int>(vocab));
    }
    double forward = 0;
    const double seconds = Time([&] {
      const auto start = std::chrono::steady_clock::now();
      auto attention = MakePackedAttention(config, starts);
      auto hidden_NE = DecoderHidden(*weights, nullptr, ids, positions, *attention);
      REQUIRE_OK(hidden_NE.status());
      auto logprobs = ComputeTokenLogprobs(*weights, nullptr, *hidden_NE, ids, 1.0);
      REQUIRE_OK(logprobs.status());
      forward = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      at::sum(logprobs->logprobs_N).backward();
    });
    std::printf("  train %d tokens: forward %.1f ms, all %.1f ms, %.0f tok/s\n",
                num_sequences * length, 1e3 * forward, 1e3 * seconds,
                num_sequences * length / seconds);
  }
}

}  // namespace rollcall
