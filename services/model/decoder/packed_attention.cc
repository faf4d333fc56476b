#include <cstring>
#include <utility>

#include <ATen/ops/empty.h>

#include "services/model/decoder/decoder.h"
#include "services/model/layers/ops.h"

namespace rollcall {
namespace {

class PackedAttention final : public AttentionContext {
 public:
  PackedAttention(const ModelConfig& config, const std::vector<int32_t>& starts)
      : shape_{config.num_heads, config.num_kv_heads, config.head_dim},
        starts_(at::empty({static_cast<int64_t>(starts.size())}, at::kInt)) {
    if (starts.empty()) return;
    std::memcpy(starts_.mutable_data_ptr<int32_t>(), starts.data(), starts_.nbytes());
  }

  at::Tensor Attend(int64_t /*layer*/, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override {
    return ops::PackedAttention(q, k, v, starts_, shape_);
  }

 private:
  const ops::AttentionShape shape_;
  const at::Tensor starts_;
};

}  // namespace

std::unique_ptr<AttentionContext> MakePackedAttention(const ModelConfig& config,
                                                      std::vector<int32_t> starts) {
  if (starts.empty()) starts = {0};
  return std::make_unique<PackedAttention>(config, starts);
}

}  // namespace rollcall
