#include "services/model/weights/device_weights.h"

#include <memory>

#include "services/model/layers/rotary_table.h"

namespace rollcall {
namespace {

class Mover {
 public:
  Mover(at::Device place, at::ScalarType dtype) : place_(place), dtype_(dtype) {}

  // Undefined stays undefined. Vector is for all that is no factor of a product.
  at::Tensor Matrix(const at::Tensor& tensor) const { return Copy(tensor, dtype_); }
  at::Tensor Vector(const at::Tensor& tensor) const { return Copy(tensor, at::kFloat); }
  std::shared_ptr<RotaryTable> Table(RotaryTable* table, int64_t max_positions) const {
    if (table == nullptr) return nullptr;
    return std::make_shared<RotaryTable>(Vector(table->Covering(max_positions)));
  }

 private:
  at::Tensor Copy(const at::Tensor& tensor, at::ScalarType dtype) const {
    if (!tensor.defined()) return {};
    return tensor.detach().to(at::TensorOptions().device(place_).dtype(dtype),
                              /*non_blocking=*/false, /*copy=*/true);
  }

  const at::Device place_;
  const at::ScalarType dtype_;
};

LayerWeights MoveLayer(const Mover& move, const LayerWeights& from) {
  return {.input_norm_E = move.Vector(from.input_norm_E),
          .input_norm_bias_E = move.Vector(from.input_norm_bias_E),
          .q_proj_OE = move.Matrix(from.q_proj_OE),
          .k_proj_OE = move.Matrix(from.k_proj_OE),
          .v_proj_OE = move.Matrix(from.v_proj_OE),
          .o_proj_EO = move.Matrix(from.o_proj_EO),
          .q_bias_O = move.Vector(from.q_bias_O),
          .k_bias_O = move.Vector(from.k_bias_O),
          .v_bias_O = move.Vector(from.v_bias_O),
          .o_bias_E = move.Vector(from.o_bias_E),
          .q_norm = move.Vector(from.q_norm),
          .k_norm = move.Vector(from.k_norm),
          .attention_out_norm_E = move.Vector(from.attention_out_norm_E),
          .mlp_norm_E = move.Vector(from.mlp_norm_E),
          .mlp_norm_bias_E = move.Vector(from.mlp_norm_bias_E),
          .gate_proj_FE = move.Matrix(from.gate_proj_FE),
          .up_proj_FE = move.Matrix(from.up_proj_FE),
          .down_proj_EF = move.Matrix(from.down_proj_EF),
          .gate_bias_F = move.Vector(from.gate_bias_F),
          .up_bias_F = move.Vector(from.up_bias_F),
          .down_bias_E = move.Vector(from.down_bias_E),
          .mlp_out_norm_E = move.Vector(from.mlp_out_norm_E)};
}

}  // namespace

StatusOr<ModelWeights> WeightsOnDevice(const ModelWeights& weights, at::Device place,
                                       at::ScalarType dtype) {
  if (weights.lora != nullptr) {
    return Unimplemented("an adapter beside the weights does not run on a device; merge it");
  }
  return GuardExceptions("moving weights to the device", [&]() -> StatusOr<ModelWeights> {
    const Mover move(place, dtype);
    ModelWeights moved;
    moved.config = weights.config;
    moved.head = weights.head;
    moved.embed_VE = move.Vector(weights.embed_VE);
    moved.position_embed_PE = move.Vector(weights.position_embed_PE);
    for (const LayerWeights& layer : weights.layers) moved.layers.push_back(MoveLayer(move, layer));
    moved.final_norm_E = move.Vector(weights.final_norm_E);
    moved.final_norm_bias_E = move.Vector(weights.final_norm_bias_E);
    const bool is_tied = weights.lm_head_VE.defined() &&
                         weights.lm_head_VE.const_data_ptr() == weights.embed_VE.const_data_ptr();
    const bool is_shared = is_tied && dtype == at::kFloat;
    moved.lm_head_VE = is_shared ? moved.embed_VE : move.Matrix(weights.lm_head_VE);
    moved.value_head_1E = move.Matrix(weights.value_head_1E);
    moved.score_LE = move.Matrix(weights.score_LE);
    moved.score_bias_L = move.Vector(weights.score_bias_L);
    moved.rotary = move.Table(weights.rotary.get(), weights.config.max_positions);
    moved.sliding_rotary = move.Table(weights.sliding_rotary.get(), weights.config.max_positions);
    return moved;
  });
}

}  // namespace rollcall
