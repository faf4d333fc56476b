// Loads and stores of up to sixteen lanes at the end of a row.
#pragma once

#include "services/model/kernels/cpu/simd.h"

namespace rollcall::ROLLCALL_ISA {

// `count` lanes, all sixteen without a detour.
ROLLCALL_INLINE F32x16 LoadUpTo(const float* p, int64_t count, float fill = 0.0F) {
  return count >= kLanes ? Load(p) : LoadFirst(p, count, fill);
}
ROLLCALL_INLINE void StoreUpTo(float* p, int64_t count, F32x16 a) {
  if (count >= kLanes) {
    Store(p, a);
  } else {
    StoreFirst(p, count, a);
  }
}

}  // namespace rollcall::ROLLCALL_ISA
