// A policy version's parameters in a device's memory.
#pragma once

#include "services/base/status/status.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {

// A copy for inference: matrices and embedding tables in `dtype` (float32, or bfloat16 rounded to
// nearest), norms and biases float32, cosines and sines of all positions. It has neither arena nor
// layout. Beside the copy at most one tensor's memory is used.
// kUnimplemented for weights with an adapter beside them: merge it first.
StatusOr<ModelWeights> WeightsOnDevice(const ModelWeights& weights, at::Device place,
                                       at::ScalarType dtype);

}  // namespace rollcall
