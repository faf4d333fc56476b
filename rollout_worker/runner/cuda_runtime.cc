#include "rollout_worker/runner/cuda_runtime.h"

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace rollcall {
namespace {

class CudaGraph final : public DeviceGraph {
 public:
  // Captures on torch's current stream, which is not the default one.
  Status Capture(c10::cuda::MempoolId_t pool, const std::function<StatusOr<at::Tensor>()>& step) {
    return GuardExceptions("capturing a CUDA graph", [&] {
      // Only what this thread does belongs to the graph; other threads may go on allocating.
      graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      std::exception_ptr thrown;
      std::optional<StatusOr<at::Tensor>> result;
      try {
        result = step();
      } catch (...) {
        thrown = std::current_exception();
      }
      graph_.capture_end();  // also after a failure: the stream must leave the capture
      if (thrown != nullptr) std::rethrow_exception(thrown);
      if (result->ok()) output_ = **std::move(result);
      return result->status();
    });
  }

  StatusOr<at::Tensor> Replay() override {
    return GuardExceptions("replaying a CUDA graph", [&]() -> StatusOr<at::Tensor> {
      graph_.replay();
      return output_;
    });
  }

 private:
  at::cuda::CUDAGraph graph_;
  at::Tensor output_;  // in the graph's memory
};

class CudaRuntime final : public DeviceRuntime {
 public:
  CudaRuntime(int index, DeviceProducts products)
      : place_(at::kCUDA, static_cast<c10::DeviceIndex>(index)),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, place_.index())),
        graph_pool_(at::cuda::graph_pool_handle()),
        device_{.kernels = &kCudaKernels, .stream = stream_.stream(), .products = products} {}

  const Device& device() const override { return device_; }
  at::Device place() const override { return place_; }

  at::Tensor HostBuffer(int64_t size, at::ScalarType dtype) override {
    return at::empty({size}, at::TensorOptions().dtype(dtype).pinned_memory(true));
  }

  void Within(const std::function<void()>& fn) override {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    fn();
  }

  Status Wait() override {
    return GuardExceptions("waiting for the GPU", [&] {
      stream_.synchronize();
      return OkStatus();
    });
  }

  StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<StatusOr<at::Tensor>()>& step) override {
    // The library makes its handles and workspaces in a run that is not captured.
    if (!is_warm_) {
      ROLLCALL_RETURN_IF_ERROR(step().status());
      ROLLCALL_RETURN_IF_ERROR(Wait());
      is_warm_ = true;
    }
    auto graph = std::make_unique<CudaGraph>();
    ROLLCALL_RETURN_IF_ERROR(graph->Capture(graph_pool_, step));
    return std::unique_ptr<DeviceGraph>(std::move(graph));
  }

 private:
  const at::Device place_;
  const c10::cuda::CUDAStream stream_;
  // One for all graphs: they run one after the other.
  const c10::cuda::MempoolId_t graph_pool_;
  const Device device_;
  bool is_warm_ = false;
};

}  // namespace

StatusOr<std::shared_ptr<DeviceRuntime>> MakeCudaRuntime(int index, DeviceProducts products) {
  using Result = StatusOr<std::shared_ptr<DeviceRuntime>>;
  return GuardExceptions("opening the GPU", [&]() -> Result {
    const int count = c10::cuda::device_count();
    if (index < 0 || index >= count) {
      return InvalidArgument("cuda:" + std::to_string(index) + ": this process sees " +
                             std::to_string(count) + " GPUs");
    }
    return std::shared_ptr<DeviceRuntime>(std::make_shared<CudaRuntime>(index, products));
  });
}

}  // namespace rollcall
