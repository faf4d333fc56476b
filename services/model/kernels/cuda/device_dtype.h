// How numbers are stored on the device.
#pragma once

#include <cstdint>

namespace rollcall {

enum class DeviceDType : uint8_t { kF32, kBf16 };

constexpr int64_t DeviceDTypeSize(DeviceDType dtype) { return dtype == DeviceDType::kF32 ? 4 : 2; }

}  // namespace rollcall
