// The shared decoder over paged KV memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "rollout_worker/runner/model_runner.h"
#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// Bytes of one KV block of this model.
int64_t KvBlockBytes(const ModelConfig& config, int32_t block_size);

// Takes num_blocks * KvBlockBytes of memory, whose pages are only really used when blocks are.
// kResourceExhausted when the system refuses.
StatusOr<std::unique_ptr<ModelRunner>> MakeDecoderRunner(const ModelConfig& config,
                                                         int32_t num_blocks, int32_t block_size);

// Weights of one policy version from a flat snapshot. kInvalidArgument names the first tensor that
// this model lacks, that the snapshot lacks, or that has another shape or type. Thread-safe; costs
// a copy of the weights and their packing.
StatusOr<std::shared_ptr<const RunnableModel>> BuildRunnableModel(
    const ModelConfig& config, const std::vector<TensorLayout>& layout,
    std::span<const std::byte> snapshot);

// This process computes with one thread, so that several workers share a machine evenly. Call
// before anything is computed.
void UseOneComputeThread();

}  // namespace rollcall
