#include "services/model/decoder/packed_weights.h"

#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/forward.h"

namespace rollcall {
namespace {

// Undefined stays undefined: a plain feed-forward block has no gate.
at::Tensor Pack(const at::Tensor& w_OK) {
  if (!w_OK.defined()) return {};
  const int64_t num_outputs = w_OK.size(0);
  const int64_t depth = w_OK.size(1);
  const at::Tensor packed = forward::Empty({PackedSize(num_outputs, depth)});
  BestCpuKernels().pack_linear(w_OK.const_data_ptr<float>(), num_outputs, depth,
                               packed.mutable_data_ptr<float>());
  return packed;
}

}  // namespace

StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(const ModelWeights& weights) {
  using Result = StatusOr<std::shared_ptr<const PackedWeights>>;
  return GuardExceptions("packing weights", [&]() -> Result {
    auto packed = std::make_shared<PackedWeights>();
    packed->layers.reserve(weights.layers.size());
    for (const LayerWeights& layer : weights.layers) {
      packed->layers.push_back({.q_proj = Pack(layer.q_proj_OE),
                                .k_proj = Pack(layer.k_proj_OE),
                                .v_proj = Pack(layer.v_proj_OE),
                                .o_proj = Pack(layer.o_proj_EO),
                                .gate_proj = Pack(layer.gate_proj_FE),
                                .up_proj = Pack(layer.up_proj_FE),
                                .down_proj = Pack(layer.down_proj_EF)});
    }
    packed->lm_head = Pack(weights.lm_head_VE);
    return packed;
  });
}

}  // namespace rollcall
