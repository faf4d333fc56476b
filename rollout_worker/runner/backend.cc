#include "rollout_worker/runner/backend.h"

#include <charconv>
#include <utility>

#if defined(ROLLCALL_HAS_CUDA_TORCH)
#include "rollout_worker/runner/cuda_runtime.h"
#include "rollout_worker/runner/device_runner.h"
#endif

namespace rollcall {
namespace {

using ModelResult = StatusOr<std::shared_ptr<const RunnableModel>>;

class CpuBackend final : public RunnerBackend {
 public:
  StatusOr<std::unique_ptr<ModelRunner>> MakeRunner(
      const ModelConfig& config, const DecoderRunnerOptions& options) const override {
    return MakeDecoderRunner(config, options);
  }
  ModelResult BuildModel(const ModelConfig& config, const std::vector<TensorLayout>& layout,
                         std::span<const std::byte> snapshot,
                         Quantization quantization) const override {
    return BuildRunnableModel(config, layout, snapshot, quantization);
  }
};

#if defined(ROLLCALL_HAS_CUDA_TORCH)
// Each runner has a stream and graphs of its own, and so has the thread that loads weights: nobody
// shares a stream that another one is capturing.
class CudaBackend final : public RunnerBackend {
 public:
  CudaBackend(int index, DeviceProducts products, std::shared_ptr<DeviceRuntime> loader)
      : index_(index), products_(products), loader_(std::move(loader)) {}

  StatusOr<std::unique_ptr<ModelRunner>> MakeRunner(
      const ModelConfig& config, const DecoderRunnerOptions& options) const override {
    ROLLCALL_ASSIGN_OR_RETURN(auto runtime, MakeCudaRuntime(index_, products_));
    return MakeDeviceRunner(config, std::move(runtime),
                            {.num_blocks = options.num_blocks, .block_size = options.block_size});
  }
  ModelResult BuildModel(const ModelConfig& config, const std::vector<TensorLayout>& layout,
                         std::span<const std::byte> snapshot,
                         Quantization quantization) const override {
    if (quantization != Quantization::kNone) {
      return Unimplemented("quantized weights do not run on a GPU; set rollout.quantization: none");
    }
    return BuildDeviceModel(config, layout, snapshot, *loader_);
  }

 private:
  const int index_;
  const DeviceProducts products_;
  const std::shared_ptr<DeviceRuntime> loader_;
};

StatusOr<std::shared_ptr<const RunnerBackend>> OpenCuda(int index, Products products) {
  const DeviceProducts device_products =
      products == Products::kOrdered ? DeviceProducts::kOrdered : DeviceProducts::kLibrary;
  ROLLCALL_ASSIGN_OR_RETURN(auto loader, MakeCudaRuntime(index, device_products));
  return std::shared_ptr<const RunnerBackend>(
      std::make_shared<CudaBackend>(index, device_products, std::move(loader)));
}
#else
StatusOr<std::shared_ptr<const RunnerBackend>> OpenCuda(int /*index*/, Products /*products*/) {
  return Unimplemented(
      "this build has no CUDA: it was made without nvcc or with the CPU's LibTorch; "
      "docs/cuda.md says what a build with CUDA needs");
}
#endif

}  // namespace

StatusOr<std::shared_ptr<const RunnerBackend>> OpenBackend(std::string_view device,
                                                           Products products) {
  constexpr std::string_view kCuda = "cuda:";
  if (device == "cpu") {
    return std::shared_ptr<const RunnerBackend>(std::make_shared<CpuBackend>());
  }
  if (device.starts_with(kCuda)) {
    const std::string_view digits = device.substr(kCuda.size());
    int index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc() && end == digits.data() + digits.size() && index >= 0) {
      return OpenCuda(index, products);
    }
  }
  return InvalidArgument("'" + std::string(device) + "' is no device; expected cpu or cuda:N");
}

}  // namespace rollcall
