// The shared decoder on a device: KV blocks and weights in its memory, decode steps as graphs.
//
//   step -> batch checked -> its integers in one copy -> decoder -> logits back in one copy -> wait
//
// A step of one new token for each sequence is padded to one of a few sizes and replays a graph,
// which is captured when that size is first met under a policy version. Other steps (prompts, parts
// of them, with or without decoding sequences) start their kernels one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rollout_worker/runner/model_runner.h"
#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"

namespace rollcall {

class DeviceRuntime;

struct DeviceRunnerOptions {
  int32_t num_blocks = 0;
  int32_t block_size = 16;            // tokens in one KV block
  int32_t max_graph_sequences = 256;  // larger steps run without a graph; 0: all do
};

// Takes num_blocks * KvBlockBytes of the device's memory; keys and values are of the model's
// precision. kInvalidArgument when the kernels
// cannot compute this model: its head dimension is not a multiple of 8, or above 256. The bytes of
// its blocks are not those of a runner on the CPU.
StatusOr<std::unique_ptr<ModelRunner>> MakeDeviceRunner(const ModelConfig& config,
                                                        std::shared_ptr<DeviceRuntime> runtime,
                                                        const DeviceRunnerOptions& options);

// Weights of one policy version from a flat snapshot, for the runners of this runtime: matrices of
// the model's precision. Errors as of BuildRunnableModel. Not while another thread uses the
// runtime.
StatusOr<std::shared_ptr<const RunnableModel>> BuildDeviceModel(
    const ModelConfig& config, const std::vector<TensorLayout>& layout,
    std::span<const std::byte> snapshot, DeviceRuntime& runtime);

}  // namespace rollcall
