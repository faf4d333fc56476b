// Where a worker computes: makes the runners of its engines and the models that they run.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/runner/model_runner.h"
#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"
#include "services/model/config/precision.h"

namespace rollcall {

// Thread-safe, but models are built on one thread at a time; a runner is its engine's.
class RunnerBackend {
 public:
  virtual ~RunnerBackend() = default;
  virtual StatusOr<std::unique_ptr<ModelRunner>> MakeRunner(
      const ModelConfig& config, const DecoderRunnerOptions& options) const = 0;
  // As BuildRunnableModel; for the runners of this backend only. kUnimplemented for a quantization
  // that this backend lacks.
  virtual StatusOr<std::shared_ptr<const RunnableModel>> BuildModel(
      const ModelConfig& config, const std::vector<TensorLayout>& layout,
      std::span<const std::byte> snapshot, Quantization quantization) const = 0;
};

// How matrices are multiplied on a GPU; see services/model/layers/device.h.
enum class Products { kOrdered, kLibrary };

// "cpu", or "cuda:N" for GPU N of those that the process sees. kInvalidArgument for another name or
// a GPU that is not there, kUnimplemented for a GPU in a build without CUDA.
StatusOr<std::shared_ptr<const RunnerBackend>> OpenBackend(std::string_view device,
                                                           Products products);

}  // namespace rollcall
