// What the decoder's kernels reach of what the machine can do: products, attention and whole steps
// beside the bandwidth and the arithmetic measured in the same run.
//
//   decode_bench [--threads N] [--context T] [--format float32|bfloat16|int8]
//                [--model M] [--case decode|prefill|linear] [--rows N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <CLI/CLI.hpp>

#include "services/base/runtime/mapped_memory.h"
#include "services/model/decoder/decoder.h"
#include "services/model/decoder/packed_weights.h"
#include "services/model/layers/ops.h"
#include "services/model/layers/tensor_memory.h"
#include "tests/bench/machine_peaks.h"

namespace rollcall {
namespace {

struct Flags {
  int num_threads = 2;
  int context = 128;
  std::string format;
  std::string model;
  std::string name;
  int64_t num_rows = 0;

  bool Wants(std::string_view what, int64_t rows) const {
    return (name.empty() || what.starts_with(name)) && (num_rows == 0 || rows == num_rows);
  }
};

struct Model {
  const char* name;
  int64_t hidden, num_layers, vocab, num_heads, intermediate;
};
constexpr Model kModels[] = {{"3 M", 256, 4, 512, 4, 704}, {"30 M", 512, 8, 8192, 8, 1408}};

// Seconds of one call, the fastest of several rounds.
double Time(const std::function<void()>& fn) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [&](int count) {
    const auto start = Clock::now();
    for (int i = 0; i < count; ++i) fn();
    return std::chrono::duration<double>(Clock::now() - start).count() / count;
  };
  // Short rounds, so that some fall between the work of others.
  const int count = std::max(1, static_cast<int>(0.002 / seconds(1)));
  double best = seconds(count);
  const auto start = Clock::now();
  for (int round = 0; round < 20 || Clock::now() - start < std::chrono::milliseconds(300);
       ++round) {
    best = std::min(best, seconds(count));
  }
  return best;
}

ModelConfig ConfigOf(const Model& model) {
  return {.vocab_size = model.vocab,
          .hidden_size = model.hidden,
          .intermediate_size = model.intermediate,
          .num_layers = model.num_layers,
          .num_heads = model.num_heads,
          .num_kv_heads = model.num_heads,
          .head_dim = model.hidden / model.num_heads,
          .max_positions = 4096};
}

// Sequences that hold `context` tokens and bring `num_new` each.
class Cache {
 public:
  Cache(const ModelConfig& config, int64_t num_sequences, int64_t context, int64_t num_new)
      : per_sequence_((context + num_new + kBlock - 1) / kBlock),
        memory_(MakeMemory(num_sequences * per_sequence_ * config.num_layers * 2 * kBlock *
                           config.num_kv_heads * config.head_dim)),
        tables_(static_cast<size_t>(num_sequences)) {
    for (size_t s = 0; s < tables_.size(); ++s) {
      tables_[s].resize(static_cast<size_t>(per_sequence_));
      std::iota(tables_[s].begin(), tables_[s].end(), static_cast<int32_t>(s * per_sequence_));
      sequences_.push_back(
          {tables_[s], static_cast<int32_t>(context), static_cast<int32_t>(num_new)});
      for (int64_t i = 0; i < num_new; ++i) {
        ids_.push_back(3);
        positions_.push_back(static_cast<int32_t>(context + i));
      }
    }
  }
  KvPool pool() {
    return {reinterpret_cast<float*>(memory_->data()),
            static_cast<int64_t>(tables_.size()) * per_sequence_, kBlock};
  }
  const std::vector<PagedSequence>& sequences() const { return sequences_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  const std::vector<int32_t>& positions() const { return positions_; }

 private:
  static constexpr int64_t kBlock = 16;

  static std::unique_ptr<MappedMemory> MakeMemory(int64_t size) {
    auto memory = MappedMemory::Map(static_cast<size_t>(size) * sizeof(float));
    ROLLCALL_CHECK(memory.ok());
    std::fill_n(reinterpret_cast<float*>((*memory)->data()), size, 0.25F);
    return *std::move(memory);
  }

  int64_t per_sequence_;
  std::unique_ptr<MappedMemory> memory_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<PagedSequence> sequences_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
};

// Of the weights, and of the KV cache.
struct Format {
  const char* name;
  Precision precision;
  Quantization quantization;
  double weight_bytes;
  double kv_bytes;
};
constexpr Format kFormats[] = {
    {"float32", Precision::kFloat32, Quantization::kNone, 4, 4},
    {"bfloat16", Precision::kBFloat16, Quantization::kNone, 2, 2},
    {"int8, bfloat16 cache", Precision::kBFloat16, Quantization::kInt8, 1, 2}};

struct Bench {
  Flags flags;
  MachinePeaks peaks;
  ThreadTeam& team;
  Format format;

  // Of int8 too, which has no peak of its own here.
  double flop_peak() const {
    const bool is_bf16 = format.precision == Precision::kBFloat16;
    return is_bf16 && peaks.bf16_flop_per_s > 0 ? peaks.bf16_flop_per_s : peaks.fma_flop_per_s;
  }

  void Print(const char* what, int64_t rows, double seconds, double flop, double bytes) const {
    std::printf("  %-26s %4ld rows %9.3f ms %8.1f GFLOP/s (%3.0f %%) %7.1f GB/s (%3.0f %%)\n", what,
                rows, 1e3 * seconds, 1e-9 * flop / seconds, 100 * flop / seconds / flop_peak(),
                1e-9 * bytes / seconds, 100 * bytes / seconds / peaks.read_bytes_per_s);
  }

  void Linear(const ModelConfig& config, const ModelWeights& weights,
              const PackedWeights& packed) const {
    const at::Tensor& w = weights.layers[0].up_proj_FE;
    for (const int64_t rows : {1, 8, 32, 512}) {
      if (!flags.Wants("linear", rows)) continue;
      const at::Tensor x =
          weights.arena.narrow(0, 0, rows * config.hidden_size).view({rows, config.hidden_size});
      // All layers in turn, so that the weights come from where a step finds them.
      const double seconds = Time([&] {
        for (const PackedLayer& layer : packed.layers) {
          ops::Linear(x, w, {}, layer.up_proj, {.team = &team, .precision = format.precision});
        }
      });
      const auto products = static_cast<double>(w.numel() * config.num_layers);
      Print("linear, up projections", rows, seconds, 2 * products * static_cast<double>(rows),
            format.weight_bytes * products);
    }
  }

  void Step(const ModelConfig& config, const ModelWeights& weights, const PackedWeights& packed,
            int64_t num_sequences, int64_t context, int64_t num_new) const {
    const char* what = num_new == 1 ? "decode step" : "prefill";
    if (!flags.Wants(what, num_sequences * num_new)) return;
    const Compute compute{.team = &team};
    Cache cache(config, num_sequences, context, num_new);
    const double seconds = Time([&] {
      const auto attention = MakePagedAttention(config, cache.pool(), cache.sequences(), compute);
      const auto hidden_NE =
          DecoderHidden(weights, &packed, cache.ids(), cache.positions(), *attention, compute);
      ROLLCALL_CHECK(hidden_NE.ok());
      const auto logits = Logits(weights, &packed, hidden_NE->narrow(0, 0, num_sequences), compute);
      ROLLCALL_CHECK(logits.ok());
    });
    const auto rows = static_cast<double>(num_sequences * num_new);
    const auto layer_parameters =
        static_cast<double>(NumParameters(config) - 2 * config.vocab_size * config.hidden_size);
    const auto head_parameters = static_cast<double>(config.vocab_size * config.hidden_size);
    const double keys = static_cast<double>(context) + 0.5 * static_cast<double>(num_new + 1);
    const auto width = static_cast<double>(config.num_layers * config.hidden_size);
    const double flop = 2 * layer_parameters * rows +
                        2 * head_parameters * static_cast<double>(num_sequences) +
                        4 * rows * keys * width;
    const double bytes =
        format.weight_bytes * (layer_parameters + head_parameters) +
        2 * format.kv_bytes * static_cast<double>(num_sequences * (context + num_new)) * width;
    Print(what, num_sequences * num_new, seconds, flop, bytes);
    std::printf("  %64.0f tok/s\n", rows / seconds);
  }

  void Run(const Model& model) const {
    ModelConfig config = ConfigOf(model);
    config.precision = format.precision;
    auto weights = AllocateWeights(config, Head::kLanguageModel, Gradients::kNone);
    ROLLCALL_CHECK(weights.ok());
    ROLLCALL_CHECK(InitializeWeights(1, &*weights).ok());
    const auto packed = PackWeights(*weights, format.quantization);
    ROLLCALL_CHECK(packed.ok());
    std::printf("%s parameters in %s: d %ld, %ld layers, vocabulary %ld\n", model.name, format.name,
                model.hidden, model.num_layers, model.vocab);
    Linear(config, *weights, **packed);
    for (const int64_t num_sequences : {1, 8, 32, 128}) {
      Step(config, *weights, **packed, num_sequences, flags.context, 1);
    }
    for (const int64_t num_prompts : {1, 8, 16})
      Step(config, *weights, **packed, num_prompts, 0, 128);
    Step(config, *weights, **packed, 1, 0, 512);
  }
};

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  rollcall::Flags flags;
  CLI::App app("Decoder kernels beside the machine's roofline.", "decode_bench");
  app.add_option("--threads", flags.num_threads, "Threads of one step")->capture_default_str();
  app.add_option("--context", flags.context, "Tokens that a sequence holds")->capture_default_str();
  app.add_option("--format", flags.format, "Only this: float32, bfloat16 or int8");
  app.add_option("--model", flags.model, "Only this: 3 or 30");
  app.add_option("--case", flags.name, "Only this: linear, decode or prefill");
  app.add_option("--rows", flags.num_rows, "Only with so many rows");
  CLI11_PARSE(app, argc, argv);
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  rollcall::RecycleTensorMemory();
  rollcall::ThreadTeam team(flags.num_threads);
  const rollcall::MachinePeaks peaks = rollcall::MeasurePeaks(team);
  std::printf("%d threads: read %.1f GB/s from memory, fp32 %.0f GFLOP/s, bf16 %.0f GFLOP/s\n",
              flags.num_threads, 1e-9 * peaks.read_bytes_per_s, 1e-9 * peaks.fma_flop_per_s,
              1e-9 * peaks.bf16_flop_per_s);
  for (const auto& model : rollcall::kModels) {
    const std::string_view size(model.name, std::string_view(model.name).find(' '));
    if (!flags.model.empty() && flags.model != size) continue;
    for (const auto& format : rollcall::kFormats) {
      if (!flags.format.empty() && !std::string_view(format.name).starts_with(flags.format))
        continue;
      rollcall::Bench{flags, peaks, team, format}.Run(model);
    }
  }
  return 0;
}
