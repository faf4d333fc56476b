#include "rollout_worker/runner/decoder_runner.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>

#include "rollout_worker/runner/snapshot_weights.h"
#include "services/base/runtime/mapped_memory.h"
#include "services/model/decoder/decoder.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {
namespace {

class DecoderModel final : public RunnableModel {
 public:
  ModelWeights weights;
  std::shared_ptr<const PackedWeights> packed;
};

class DecoderRunner final : public ModelRunner {
 public:
  DecoderRunner(const ModelConfig& config, const DecoderRunnerOptions& options)
      : config_(config),
        block_floats_(KvBlockBytes(config, options.block_size) /
                      static_cast<int64_t>(sizeof(float))),
        pool_{.data = nullptr, .num_blocks = options.num_blocks, .block_size = options.block_size},
        team_(options.compute_threads) {}

  Status Allocate() {
    auto memory = MappedMemory::Map(static_cast<size_t>(pool_.num_blocks * block_bytes()));
    if (!memory.ok()) {
      return ResourceExhausted("KV cache: " + Message(memory.status()) +
                               "; a smaller --kv-cache-mib would fit");
    }
    memory_ = *std::move(memory);
    pool_.data = reinterpret_cast<float*>(memory_->data());
    return OkStatus();
  }

  StatusOr<std::span<const float>> Run(const RunnableModel& model,
                                       const BatchLayout& batch) override {
    return GuardExceptions("running the model", [&] {
      return RunGuarded(static_cast<const DecoderModel&>(model), batch);
    });
  }

  Status CompactHeavyHitters(std::span<const BlockId> block_table,
                             HeavyHitters* heavy_hitters) override {
    rollcall::CompactHeavyHitters(config_, pool_, block_table, heavy_hitters);
    return OkStatus();
  }

  void CopyBlock(BlockId from, BlockId to) override {
    std::memcpy(pool_.data + to * block_floats_, pool_.data + from * block_floats_,
                static_cast<size_t>(block_floats_) * sizeof(float));
  }

  int64_t block_bytes() const override {
    return block_floats_ * static_cast<int64_t>(sizeof(float));
  }

  void ReadBlocks(BlockId first, int32_t count, std::byte* out) const override {
    std::memcpy(out, pool_.data + first * block_floats_,
                static_cast<size_t>(count * block_bytes()));
  }

  void WriteBlocks(BlockId first, int32_t count, const std::byte* in) override {
    std::memcpy(pool_.data + first * block_floats_, in, static_cast<size_t>(count * block_bytes()));
  }

 private:
  StatusOr<std::span<const float>> RunGuarded(const DecoderModel& model, const BatchLayout& batch) {
    const at::NoGradGuard no_grad;
    std::vector<PagedSequence> sequences;
    sequences.reserve(batch.sequences.size());
    for (const BatchSequence& sequence : batch.sequences) {
      sequences.push_back(
          {sequence.block_table, sequence.num_cached, sequence.num_new, sequence.heavy_hitters});
    }
    const Compute compute{.team = &team_};
    const auto attention = MakePagedAttention(config_, pool_, std::move(sequences), compute);
    ROLLCALL_ASSIGN_OR_RETURN(at::Tensor hidden_NE,
                              DecoderHidden(model.weights, model.packed.get(), batch.token_ids,
                                            batch.positions, *attention, compute));
    ROLLCALL_RETURN_IF_ERROR(Score(model, batch, hidden_NE, compute));
    if (batch.logit_rows.empty()) return std::span<const float>();
    if (batch.logit_rows.size() != batch.token_ids.size()) {
      hidden_NE = RowsOf(hidden_NE, batch.logit_rows);
    }
    ROLLCALL_ASSIGN_OR_RETURN(at::Tensor logits_NV,
                              Logits(model.weights, model.packed.get(), hidden_NE, compute));
    logits_NV_ = logits_NV.contiguous();
    return std::span<const float>(logits_NV_.const_data_ptr<float>(),
                                  static_cast<size_t>(logits_NV_.numel()));
  }

  static at::Tensor RowsOf(const at::Tensor& hidden_NE, std::span<const int64_t> rows) {
    const at::Tensor places = at::from_blob(const_cast<int64_t*>(rows.data()),
                                            {static_cast<int64_t>(rows.size())}, at::kLong);
    return at::index_select(hidden_NE, 0, places);
  }

  // A row's logits do not depend on the rows beside it, so the pieces change no bit.
  Status Score(const DecoderModel& model, const BatchLayout& batch, const at::Tensor& hidden_NE,
               const Compute& compute) const {
    const std::span<const int64_t> rows = batch.scored_rows;
    const size_t piece = ScoredRowsAtOnce(config_.vocab_size);
    for (size_t first = 0; first < rows.size(); first += piece) {
      const auto part = rows.subspan(first, std::min(piece, rows.size() - first));
      ROLLCALL_ASSIGN_OR_RETURN(
          const at::Tensor computed_NV,
          Logits(model.weights, model.packed.get(), RowsOf(hidden_NE, part), compute));
      const at::Tensor logits_NV = computed_NV.contiguous();
      batch.on_scored(first,
                      {logits_NV.const_data_ptr<float>(), static_cast<size_t>(logits_NV.numel())});
    }
    return OkStatus();
  }

  const ModelConfig config_;
  const int64_t block_floats_;
  std::unique_ptr<MappedMemory> memory_;
  KvPool pool_;
  ThreadTeam team_;
  at::Tensor logits_NV_;  // of the last batch; what Run returned points into it
};

}  // namespace

int64_t KvBlockBytes(const ModelConfig& config, int32_t block_size) {
  // Two numbers of bfloat16 in the place of a float.
  const int64_t row_floats =
      config.precision == Precision::kBFloat16 ? (config.head_dim + 1) / 2 : config.head_dim;
  return config.num_layers * 2 * config.num_kv_heads * block_size * row_floats *
         static_cast<int64_t>(sizeof(float));
}

StatusOr<std::unique_ptr<ModelRunner>> MakeDecoderRunner(const ModelConfig& config,
                                                         const DecoderRunnerOptions& options) {
  auto runner = std::make_unique<DecoderRunner>(config, options);
  ROLLCALL_RETURN_IF_ERROR(runner->Allocate());
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

StatusOr<std::shared_ptr<const RunnableModel>> BuildRunnableModel(
    const ModelConfig& config, const std::vector<TensorLayout>& layout,
    std::span<const std::byte> snapshot, Quantization quantization) {
  using Result = StatusOr<std::shared_ptr<const RunnableModel>>;
  return GuardExceptions("loading weights", [&]() -> Result {
    auto model = std::make_shared<DecoderModel>();
    ROLLCALL_ASSIGN_OR_RETURN(model->weights, WeightsFromSnapshot(config, layout, snapshot));
    ROLLCALL_ASSIGN_OR_RETURN(model->packed, PackWeights(model->weights, quantization));
    return std::shared_ptr<const RunnableModel>(std::move(model));
  });
}

void UseOneTorchThread() {
  at::set_num_threads(1);
  at::set_num_interop_threads(1);
}

}  // namespace rollcall
