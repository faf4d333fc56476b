// What PackWeights makes: every matrix in the panels of kernels/linear.h, float32 or int32 (pairs
// of bfloat16).
#pragma once

#include <vector>

#include "services/model/decoder/decoder.h"
#include "services/model/tensor.h"

namespace rollcall {

struct PackedLayer {
  at::Tensor q_proj;
  at::Tensor k_proj;
  at::Tensor v_proj;
  at::Tensor o_proj;
  at::Tensor gate_proj;  // undefined in a plain feed-forward block
  at::Tensor up_proj;
  at::Tensor down_proj;
};

struct PackedWeights {
  std::vector<PackedLayer> layers;
  at::Tensor lm_head;  // undefined with a value or score head
};

}  // namespace rollcall
