// What the tests of the device kernels share: random vectors, and every order in which the emulator
// can run the threads of a block.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cuda/device_kernels.h"
#include "tests/support/catch.h"
#include "tests/support/device_emulator.h"

namespace rollcall {

using Floats = std::vector<float>;

inline Floats RandomFloats(CounterRandom& random, int64_t size) {
  Floats values;
  for (int64_t i = 0; i < size; ++i) values.push_back(static_cast<float>(random.Normal()));
  return values;
}

inline bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// To nearest, ties to even: the definition, by comparing with both neighbours.
inline uint16_t Bf16Of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return 0x7FFF;
  const auto below = static_cast<uint16_t>(bits >> 16);
  const uint32_t rest = bits & 0xFFFFU;
  const bool up = rest > 0x8000U || (rest == 0x8000U && (below & 1U) != 0);
  return static_cast<uint16_t>(below + (up ? 1 : 0));
}
inline float FloatOf(uint16_t bf16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16);
}
inline std::vector<uint16_t> Bf16sOf(const Floats& values) {
  std::vector<uint16_t> rounded;
  for (float x : values) rounded.push_back(Bf16Of(x));
  return rounded;
}
inline Floats Rounded(const Floats& values) {
  Floats rounded;
  for (float x : values) rounded.push_back(FloatOf(Bf16Of(x)));
  return rounded;
}

constexpr EmulatorOrder::Kind kOrders[] = {
    EmulatorOrder::Kind::kForward, EmulatorOrder::Kind::kBackward, EmulatorOrder::Kind::kRandom};

}  // namespace rollcall
