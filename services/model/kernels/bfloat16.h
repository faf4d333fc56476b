// bfloat16 in memory: two numbers in 32 bits, the first in the upper half. Rounding is to the
// nearest, ties to even; NaN stays NaN.
#pragma once

#include <cstdint>

namespace rollcall {

using Bf16Pair = uint32_t;

// Pairs of a row of `size` numbers; the last one is filled up with a zero.
// Always inlined: sources of different instruction sets share no symbol.
__attribute__((always_inline)) constexpr int64_t NumBf16Pairs(int64_t size) {
  return (size + 1) / 2;
}

}  // namespace rollcall
