#include "services/model/decoder/device_attention.h"

#include <utility>

#include "services/model/layers/device_forward.h"

namespace rollcall {
namespace {

const int32_t* Ints(const at::Tensor& tensor) { return tensor.const_data_ptr<int32_t>(); }

class DeviceAttention final : public AttentionContext {
 public:
  DeviceAttention(const ModelConfig& config, const Device& device, DeviceKvPool pool,
                  DeviceSequences sequences)
      : config_(config),
        device_(device),
        pool_(std::move(pool)),
        sequences_(std::move(sequences)) {}

  at::Tensor Attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override {
    const DeviceKvLayer kv = KvOfLayer(layer);
    device_forward::Check(device_,
                          device_.kernels->kv_append({.kv = kv,
                                                      .k = k.const_data_ptr<float>(),
                                                      .v = v.const_data_ptr<float>(),
                                                      .slots = Ints(sequences_.slots_N),
                                                      .num_rows = q.size(0)},
                                                     device_.stream),
                          "kv_append");
    if (!workspace_.defined()) {
      workspace_ =
          device_forward::Empty({DeviceAttentionWorkspace(q.size(0), config_.num_heads, kv.head_dim,
                                                          sequences_.max_keys)},
                                q);
    }
    const at::Tensor out = device_forward::Empty(q.sizes(), q);
    const LayerAttention attention = AttentionOfLayer(config_, layer);
    device_forward::Check(
        device_,
        device_.kernels->attention({.kv = kv,
                                    .q = q.const_data_ptr<float>(),
                                    .num_heads = config_.num_heads,
                                    .num_sequences = sequences_.num_keys_S.size(0),
                                    .query_starts = Ints(sequences_.query_starts_S1),
                                    .num_keys = Ints(sequences_.num_keys_S),
                                    .block_tables = Ints(sequences_.block_tables_ST),
                                    .table_stride = sequences_.block_tables_ST.size(1),
                                    .max_queries = sequences_.max_queries,
                                    .max_keys = sequences_.max_keys,
                                    .scale = static_cast<float>(attention.scale),
                                    .softcap = static_cast<float>(config_.attention_softcap),
                                    .window = attention.window,
                                    .out = out.mutable_data_ptr<float>(),
                                    .workspace = workspace_.mutable_data_ptr<float>(),
                                    .num_rows = q.size(0)},
                                   device_.stream),
        "attention");
    return out;
  }

 private:
  DeviceKvLayer KvOfLayer(int64_t layer) const {
    const int64_t plane = config_.num_kv_heads * pool_.block_size * config_.head_dim;
    return {.pool = pool_.blocks.mutable_data_ptr(),
            .dtype = device_forward::DTypeOf(pool_.blocks),
            .block_stride = pool_.blocks.stride(0),
            .k_offset = 2 * layer * plane,
            .v_offset = (2 * layer + 1) * plane,
            .block_size = pool_.block_size,
            .num_kv_heads = config_.num_kv_heads,
            .head_dim = config_.head_dim};
  }

  const ModelConfig& config_;
  const Device& device_;
  const DeviceKvPool pool_;
  const DeviceSequences sequences_;
  at::Tensor workspace_;
};

}  // namespace

std::unique_ptr<AttentionContext> MakeDeviceAttention(const ModelConfig& config,
                                                      const Device& device, DeviceKvPool pool,
                                                      DeviceSequences sequences) {
  return std::make_unique<DeviceAttention>(config, device, std::move(pool), std::move(sequences));
}

}  // namespace rollcall
