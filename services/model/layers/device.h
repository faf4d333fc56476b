// A GPU, or the emulated one of the tests, as the place where the operations of a call run.
#pragma once

#include <cstdint>

#include "services/model/kernels/cuda/device_kernels.h"

namespace rollcall {

// How matrices are multiplied.
enum class DeviceProducts : uint8_t {
  // By our kernel: one accumulator a number, in the order of k. A row's bits do not depend on the
  // other rows.
  kOrdered,
  // By the vendor's library with its tensor cores: fast. Bits depend on the shape of the batch.
  kLibrary,
};

// Tensors of the call lie in the device's memory. The stream is torch's current one, so that what
// torch's own operators do comes in order.
struct Device {
  const DeviceKernels* kernels = nullptr;
  DeviceStream stream = nullptr;
  DeviceProducts products = DeviceProducts::kOrdered;
};

}  // namespace rollcall
