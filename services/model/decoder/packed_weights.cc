#include "services/model/decoder/packed_weights.h"

#include "services/model/layers/forward.h"

namespace rollcall {
namespace {

// Undefined stays undefined: a plain feed-forward block has no gate.
at::Tensor PackOne(const at::Tensor& w_OK, Precision precision) {
  return w_OK.defined() ? forward::Pack(w_OK, precision) : at::Tensor();
}

}  // namespace

StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(const ModelWeights& weights) {
  using Result = StatusOr<std::shared_ptr<const PackedWeights>>;
  return GuardExceptions("packing weights", [&]() -> Result {
    auto packed = std::make_shared<PackedWeights>();
    const auto pack = [&](const at::Tensor& w_OK) {
      return PackOne(w_OK, weights.config.precision);
    };
    packed->layers.reserve(weights.layers.size());
    for (const LayerWeights& layer : weights.layers) {
      packed->layers.push_back({.q_proj = pack(layer.q_proj_OE),
                                .k_proj = pack(layer.k_proj_OE),
                                .v_proj = pack(layer.v_proj_OE),
                                .o_proj = pack(layer.o_proj_EO),
                                .gate_proj = pack(layer.gate_proj_FE),
                                .up_proj = pack(layer.up_proj_FE),
                                .down_proj = pack(layer.down_proj_EF)});
    }
    packed->lm_head = pack(weights.lm_head_VE);
    return packed;
  });
}

}  // namespace rollcall
