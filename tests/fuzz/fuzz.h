// What the fuzz targets share. A target feeds one decoder of outside data with arbitrary bytes: the
// answer is a value or an error, never a crash, a hang or an allocation out of proportion.
// libFuzzer calls LLVMFuzzerTestOneInput; the sanitizers and the limits on its command line are the
// judges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace rollcall::fuzz {

inline std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A property that every accepted input must have; what it was is in the stack trace.
inline void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace rollcall::fuzz
