#include "rollout_worker/runner/device_runner.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/runner/device_batch.h"
#include "rollout_worker/runner/device_runtime.h"
#include "rollout_worker/runner/graph_buckets.h"
#include "rollout_worker/runner/snapshot_weights.h"
#include "services/model/decoder/decoder.h"
#include "services/model/decoder/device_attention.h"
#include "services/model/layers/device_forward.h"
#include "services/model/weights/device_weights.h"

namespace rollcall {
namespace {

at::ScalarType TorchType(const ModelConfig& config) {
  return config.precision == Precision::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

// Blocks of a device are longer than those of the CPU by this much: their bytes mean something
// else, and workers that exchange blocks compare the lengths.
constexpr int64_t kLayoutMarkBytes = 16;

constexpr const char* kForgets =
    "a device keeps the keys of all tokens: a KV budget for each sequence works on the CPU only";

class DeviceModel final : public RunnableModel {
 public:
  ModelWeights weights;
  // Ends with the model, however long its address lives.
  std::shared_ptr<const int> life = std::make_shared<const int>(0);
};

// The graphs of one model.
struct ModelGraphs {
  std::weak_ptr<const int> life;
  // By (sequences, keys).
  std::map<std::pair<int64_t, int64_t>, std::unique_ptr<DeviceGraph>> graphs;
};

class DeviceRunner final : public ModelRunner {
 public:
  DeviceRunner(const ModelConfig& config, std::shared_ptr<DeviceRuntime> runtime,
               const DeviceRunnerOptions& options)
      : config_(config),
        options_(options),
        block_bytes_(KvBlockBytes(config, options.block_size) + kLayoutMarkBytes),
        max_blocks_((config.max_positions + options.block_size - 1) / options.block_size),
        runtime_(std::move(runtime)) {}

  Status Allocate() {
    return GuardExceptions("allocating KV blocks", [&] {
      pool_.block_size = options_.block_size;
      const at::ScalarType dtype = TorchType(config_);
      pool_.blocks = at::empty(
          {options_.num_blocks, block_bytes_ / static_cast<int64_t>(c10::elementSize(dtype))},
          at::TensorOptions().device(runtime_->place()).dtype(dtype));
      return OkStatus();
    });
  }

  StatusOr<std::span<const float>> Run(const RunnableModel& model,
                                       const BatchLayout& batch) override {
    using Result = StatusOr<std::span<const float>>;
    ROLLCALL_RETURN_IF_ERROR(CheckBatch(config_, options_.num_blocks, options_.block_size, batch));
    for (const BatchSequence& sequence : batch.sequences) {
      if (sequence.heavy_hitters != nullptr) return Unimplemented(kForgets);
    }
    return GuardExceptions("running the model on the device", [&]() -> Result {
      std::optional<Result> result;
      runtime_->Within([&] { result = RunWithin(static_cast<const DeviceModel&>(model), batch); });
      return *std::move(result);
    });
  }

  Status CompactHeavyHitters(std::span<const BlockId> /*block_table*/,
                             HeavyHitters* /*heavy_hitters*/) override {
    return Unimplemented(kForgets);
  }

  int64_t block_bytes() const override { return block_bytes_; }

  void CopyBlock(BlockId from, BlockId to) override {
    runtime_->Within([&] {
      pool_.blocks.select(0, to).copy_(pool_.blocks.select(0, from));
      ROLLCALL_CHECK(runtime_->Wait().ok(), "the device failed while a KV block was copied");
    });
  }

  // Copies from and to ordinary memory are done when they return.
  void ReadBlocks(BlockId first, int32_t count, std::byte* out) const override {
    const at::Tensor host = pool_.blocks.narrow(0, first, count).to(at::kCPU).contiguous();
    std::memcpy(out, host.const_data_ptr(), static_cast<size_t>(count * block_bytes_));
  }

  void WriteBlocks(BlockId first, int32_t count, const std::byte* in) override {
    const at::Tensor blocks = pool_.blocks.narrow(0, first, count);
    const at::Tensor host = at::empty(blocks.sizes(), blocks.options().device(at::kCPU));
    std::memcpy(host.mutable_data_ptr(), in, static_cast<size_t>(count * block_bytes_));
    blocks.copy_(host);
  }

 private:
  StatusOr<std::span<const float>> RunWithin(const DeviceModel& model, const BatchLayout& batch) {
    const at::NoGradGuard no_grad;
    std::erase_if(graphs_, [](const auto& entry) { return entry.second.life.expired(); });
    int64_t max_queries = 1;
    int64_t max_keys = 1;
    bool is_decode = true;
    for (const BatchSequence& sequence : batch.sequences) {
      is_decode = is_decode && sequence.num_new == 1;
      max_queries = std::max<int64_t>(max_queries, sequence.num_new);
      max_keys = std::max<int64_t>(max_keys, int64_t{sequence.num_cached} + sequence.num_new);
    }
    const auto num_sequences = static_cast<int64_t>(batch.sequences.size());
    if (num_sequences == 0) return std::span<const float>();
    if (is_decode && batch.scored_rows.empty() && num_sequences <= options_.max_graph_sequences) {
      return RunGraph(model, batch, max_keys);
    }
    const auto num_rows = static_cast<int64_t>(batch.logit_rows.size());
    const auto num_scored = static_cast<int64_t>(batch.scored_rows.size());
    DeviceBatch input(*runtime_,
                      {.num_tokens = static_cast<int64_t>(batch.token_ids.size()),
                       .num_sequences = num_sequences,
                       .table_stride = (max_keys + options_.block_size - 1) / options_.block_size,
                       .num_rows = num_rows + num_scored});
    input.Fill(batch, options_.block_size);
    ROLLCALL_ASSIGN_OR_RETURN(at::Tensor hidden_NE, Hidden(model, input, max_queries, max_keys));
    ROLLCALL_RETURN_IF_ERROR(
        Score(model, batch, hidden_NE, input.rows_R().narrow(0, num_rows, num_scored)));
    if (batch.logit_rows.empty()) {
      ROLLCALL_RETURN_IF_ERROR(runtime_->Wait());
      return std::span<const float>();
    }
    if (batch.logit_rows.size() != batch.token_ids.size()) {
      hidden_NE = device_forward::GatherRows(runtime_->device(), hidden_NE,
                                             input.rows_R().narrow(0, 0, num_rows));
    }
    ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor logits_NV,
                              Logits(model.weights, nullptr, hidden_NE, compute()));
    ROLLCALL_RETURN_IF_ERROR(Download(logits_NV));
    return Downloaded(logits_NV.size(0));
  }

  Status Score(const DeviceModel& model, const BatchLayout& batch, const at::Tensor& hidden_NE,
               const at::Tensor& rows_R) {
    const auto piece = static_cast<int64_t>(ScoredRowsAtOnce(config_.vocab_size));
    for (int64_t first = 0; first < rows_R.size(0); first += piece) {
      const int64_t count = std::min(piece, rows_R.size(0) - first);
      const at::Tensor part_RE =
          device_forward::GatherRows(runtime_->device(), hidden_NE, rows_R.narrow(0, first, count));
      ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor logits_NV,
                                Logits(model.weights, nullptr, part_RE, compute()));
      ROLLCALL_RETURN_IF_ERROR(Download(logits_NV));
      batch.on_scored(static_cast<size_t>(first), Downloaded(count));
    }
    return OkStatus();
  }

  // A decode step, padded.
  StatusOr<std::span<const float>> RunGraph(const DeviceModel& model, const BatchLayout& batch,
                                            int64_t max_keys) {
    const auto num_sequences = static_cast<int64_t>(batch.sequences.size());
    const int64_t room = GraphSequences(num_sequences);
    const int64_t keys = GraphKeys(max_keys, config_.max_positions);
    auto input = inputs_.find(room);
    if (input == inputs_.end()) {
      const DeviceBatchShape shape{
          .num_tokens = room, .num_sequences = room, .table_stride = max_blocks_, .num_rows = room};
      input = inputs_.emplace(room, DeviceBatch(*runtime_, shape)).first;
    }
    input->second.Fill(batch, options_.block_size);
    ModelGraphs& of_model = graphs_[&model];
    of_model.life = model.life;
    std::unique_ptr<DeviceGraph>& graph = of_model.graphs[{room, keys}];
    if (graph == nullptr) {
      // References stay: a map's nodes do not move.
      const auto step = [this, &model, &batch_input = input->second,
                         keys]() -> StatusOr<at::Tensor> {
        ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor hidden_NE,
                                  Hidden(model, batch_input, /*max_queries=*/1, keys));
        return Logits(model.weights, nullptr, hidden_NE, compute());
      };
      ROLLCALL_ASSIGN_OR_RETURN(graph, runtime_->Capture(step));
    }
    ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor logits_NV, graph->Replay());
    ROLLCALL_RETURN_IF_ERROR(Download(logits_NV.narrow(0, 0, num_sequences)));
    return Downloaded(batch.logit_rows);
  }

  StatusOr<at::Tensor> Hidden(const DeviceModel& model, const DeviceBatch& input,
                              int64_t max_queries, int64_t max_keys) {
    DeviceSequences sequences = input.sequences();
    sequences.max_queries = max_queries;
    sequences.max_keys = max_keys;
    const auto attention =
        MakeDeviceAttention(config_, runtime_->device(), pool_, std::move(sequences));
    return DecoderHidden(model.weights, nullptr, input.token_ids_N(), input.positions_N(),
                         *attention, compute());
  }

  Compute compute() const { return {.device = &runtime_->device()}; }

  // Copies all rows to the host and waits.
  Status Download(const at::Tensor& logits_NV) {
    if (!logits_.defined() || logits_.numel() < logits_NV.numel()) {
      logits_ = runtime_->HostBuffer(logits_NV.numel(), at::kFloat);
    }
    logits_.narrow(0, 0, logits_NV.numel())
        .view(logits_NV.sizes())
        .copy_(logits_NV, /*non_blocking=*/true);
    return runtime_->Wait();
  }

  std::span<const float> Downloaded(int64_t num_rows) const {
    return {logits_.const_data_ptr<float>(), static_cast<size_t>(num_rows * config_.vocab_size)};
  }
  // Of rows that ascend, brought together.
  std::span<const float> Downloaded(const std::vector<int64_t>& rows) {
    float* out = logits_.mutable_data_ptr<float>();
    const auto width = static_cast<size_t>(config_.vocab_size);
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row = static_cast<size_t>(rows[i]);
      if (row != i) std::memmove(out + i * width, out + row * width, width * sizeof(float));
    }
    return {out, rows.size() * width};
  }

  const ModelConfig config_;
  const DeviceRunnerOptions options_;
  const int64_t block_bytes_;
  const int64_t max_blocks_;  // of one sequence
  const std::shared_ptr<DeviceRuntime> runtime_;
  DeviceKvPool pool_;
  at::Tensor logits_;                                 // of the last batch, on the host
  std::map<int64_t, DeviceBatch> inputs_;             // of the graphs, by their sequences
  std::map<const DeviceModel*, ModelGraphs> graphs_;  // before the runtime goes
};

}  // namespace

StatusOr<std::unique_ptr<ModelRunner>> MakeDeviceRunner(const ModelConfig& config,
                                                        std::shared_ptr<DeviceRuntime> runtime,
                                                        const DeviceRunnerOptions& options) {
  if (config.head_dim % 8 != 0 || config.head_dim > 256) {
    return InvalidArgument("head_dim is " + std::to_string(config.head_dim) +
                           "; on a device it must be a multiple of 8, at most 256");
  }
  auto runner = std::make_unique<DeviceRunner>(config, std::move(runtime), options);
  ROLLCALL_RETURN_IF_ERROR(runner->Allocate());
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

StatusOr<std::shared_ptr<const RunnableModel>> BuildDeviceModel(
    const ModelConfig& config, const std::vector<TensorLayout>& layout,
    std::span<const std::byte> snapshot, DeviceRuntime& runtime) {
  using Result = StatusOr<std::shared_ptr<const RunnableModel>>;
  ROLLCALL_ASSIGN_OR_RETURN(const ModelWeights weights,
                            WeightsFromSnapshot(config, layout, snapshot));
  return GuardExceptions("loading weights onto the device", [&]() -> Result {
    auto model = std::make_shared<DeviceModel>();
    Status status;
    runtime.Within([&] {
      auto moved = WeightsOnDevice(weights, runtime.place(), TorchType(config));
      status = moved.ok() ? runtime.Wait() : moved.status();
      if (moved.ok()) model->weights = *std::move(moved);
    });
    ROLLCALL_RETURN_IF_ERROR(status);
    return std::shared_ptr<const RunnableModel>(std::move(model));
  });
}

}  // namespace rollcall
