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

struct DecoderRunnerOptions {
  int32_t num_blocks = 0;
  int32_t block_size = 16;      // tokens in one KV block
  int32_t compute_threads = 1;  // the caller's included; results do not depend on it
};

// Takes num_blocks * KvBlockBytes of memory, whose pages are only really used when blocks are, and
// compute_threads - 1 threads. kResourceExhausted when the system refuses the memory.
StatusOr<std::unique_ptr<ModelRunner>> MakeDecoderRunner(const ModelConfig& config,
                                                         const DecoderRunnerOptions& options);

// Weights of one policy version from a flat snapshot. kInvalidArgument names the first tensor that
// this model lacks, that the snapshot lacks, or that has another shape or type. Thread-safe; costs
// a copy of the weights and their packing. It computes in the precision of the config; quantized
// weights give log-probabilities that are not the learner's.
StatusOr<std::shared_ptr<const RunnableModel>> BuildRunnableModel(
    const ModelConfig& config, const std::vector<TensorLayout>& layout,
    std::span<const std::byte> snapshot, Quantization quantization = Quantization::kNone);

// Torch computes with the calling thread alone; the threads of a runner are its own. Call before
// anything is computed.
void UseOneTorchThread();

}  // namespace rollcall
