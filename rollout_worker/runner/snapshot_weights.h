// A policy version's parameters out of the flat snapshot that weight synchronisation brings.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {

// A copy. kInvalidArgument names the first tensor that this model lacks, that the snapshot lacks,
// or that has another shape or type.
StatusOr<ModelWeights> WeightsFromSnapshot(const ModelConfig& config,
                                           const std::vector<TensorLayout>& layout,
                                           std::span<const std::byte> snapshot);

}  // namespace rollcall
