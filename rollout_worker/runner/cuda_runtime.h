// A GPU of this machine, by torch's CUDA allocator and streams. Only in builds with the CUDA
// LibTorch.
#pragma once

#include <memory>

#include "rollout_worker/runner/device_runtime.h"
#include "services/base/status/status.h"
#include "services/model/layers/device.h"

namespace rollcall {

// `index` counts the GPUs that the process sees. kInvalidArgument when there is no such GPU.
StatusOr<std::shared_ptr<DeviceRuntime>> MakeCudaRuntime(int index, DeviceProducts products);

}  // namespace rollcall
