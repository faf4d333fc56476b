#include <cstring>
#include <vector>

#include <ATen/ops/empty.h>

#include "services/model/decoder/decoder.h"
#include "services/model/layers/ops.h"

namespace rollcall {
namespace {

class PackedAttention final : public AttentionContext {
 public:
  PackedAttention(const ModelConfig& config, const std::vector<int32_t>& starts)
      : starts_(at::empty({static_cast<int64_t>(starts.size())}, at::kInt)) {
    shapes_.reserve(static_cast<size_t>(config.num_layers));
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      const LayerAttention attention = AttentionOfLayer(config, layer);
      shapes_.push_back({.num_heads = config.num_heads,
                         .num_kv_heads = config.num_kv_heads,
                         .head_dim = config.head_dim,
                         .scale = attention.scale,
                         .softcap = config.attention_softcap,
                         .window = attention.window,
                         .precision = config.precision});
    }
    if (starts.empty()) return;
    std::memcpy(starts_.mutable_data_ptr<int32_t>(), starts.data(), starts_.nbytes());
  }

  at::Tensor Attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override {
    return ops::PackedAttention(q, k, v, starts_, shapes_[static_cast<size_t>(layer)]);
  }

 private:
  std::vector<ops::AttentionShape> shapes_;  // of each layer
  const at::Tensor starts_;
};

}  // namespace

std::unique_ptr<AttentionContext> MakePackedAttention(const ModelConfig& config,
                                                      std::vector<int32_t> starts) {
  if (starts.empty()) starts = {0};
  return std::make_unique<PackedAttention>(config, starts);
}

}  // namespace rollcall
