// A policy version's parameters in a device's memory.
#pragma once

#include "services/base/status/status.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {

// A copy for inference: matrices in `dtype` (float32, or bfloat16 rounded to nearest); embedding
// tables, norms and biases float32; cosines and sines of all positions. It has neither arena nor
// layout. A tied output projection is the embedding itself in float32, a second tensor in bfloat16.
// Beside the copy at most one tensor's memory is used.
// kUnimplemented for weights with an adapter beside them: merge it first.
StatusOr<ModelWeights> WeightsOnDevice(const ModelWeights& weights, at::Device place,
                                       at::ScalarType dtype);

}  // namespace rollcall
