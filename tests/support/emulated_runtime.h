// A device runtime of the emulated kernels: the device's memory is the host's, a graph runs its
// step again. Counts what it does.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <ATen/ops/empty.h>

#include "rollout_worker/runner/device_runtime.h"
#include "tests/support/device_emulator.h"

namespace rollcall::testing {

class EmulatedRuntime final : public DeviceRuntime {
 public:
  int num_captured = 0;
  int num_replayed = 0;
  int num_graphs = 0;  // that are alive
  Status wait_status;  // what Wait says

  const Device& device() const override { return device_; }
  at::Device place() const override { return at::kCPU; }
  at::Tensor HostBuffer(int64_t size, at::ScalarType dtype) override {
    return at::empty({size}, at::TensorOptions().dtype(dtype));
  }
  void Within(const std::function<void()>& fn) override { fn(); }
  Status Wait() override { return wait_status; }
  StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<StatusOr<at::Tensor>()>& step) override {
    ++num_captured;
    return std::unique_ptr<DeviceGraph>(std::make_unique<Graph>(this, step));
  }

 private:
  class Graph final : public DeviceGraph {
   public:
    Graph(EmulatedRuntime* runtime, std::function<StatusOr<at::Tensor>()> step)
        : runtime_(runtime), step_(std::move(step)) {
      ++runtime_->num_graphs;
    }
    ~Graph() override { --runtime_->num_graphs; }
    StatusOr<at::Tensor> Replay() override {
      ++runtime_->num_replayed;
      return step_();
    }

   private:
    EmulatedRuntime* const runtime_;
    const std::function<StatusOr<at::Tensor>()> step_;
  };

  const Device device_{.kernels = &kEmulatedKernels};
};

}  // namespace rollcall::testing
