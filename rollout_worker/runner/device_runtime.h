// What a runner needs of a GPU beside the kernels: a stream, page-locked memory and graphs. The
// real one is cuda_runtime.cc; tests have one for the emulated device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "services/base/status/status.h"
#include "services/model/layers/device.h"
#include "services/model/tensor.h"

namespace rollcall {

// A step that was recorded: the same kernels on the same memory.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Starts the step again. What it gave is the same memory each time, valid until the next replay
  // of a graph of this runtime.
  virtual StatusOr<at::Tensor> Replay() = 0;
};

// Used from one thread at a time; outlives its graphs.
class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  virtual const Device& device() const = 0;
  // Where torch puts tensors that lie on the device.
  virtual at::Device place() const = 0;
  // Uninitialised memory of the host that the device reads and writes while the host goes on.
  virtual at::Tensor HostBuffer(int64_t size, at::ScalarType dtype) = 0;

  // Runs fn with the device's stream as torch's current one; what fn throws comes out.
  virtual void Within(const std::function<void()>& fn) = 0;
  // Inside Within: everything started so far is done. An error of a kernel comes out here.
  virtual Status Wait() = 0;
  // Inside Within: records what `step` starts. It may run the step as well, so that running it
  // twice must be as good as once. The step allocates only tensors and waits for nothing.
  virtual StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<StatusOr<at::Tensor>()>& step) = 0;
};

}  // namespace rollcall
