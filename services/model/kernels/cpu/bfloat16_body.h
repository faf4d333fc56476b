// Rounding to bfloat16 and pairs of it for one instruction set; see kernels/bfloat16.h. Pairs
// travel in the lanes of floats, whose bits no load, store or broadcast changes.
#pragma once

#include "services/model/kernels/bfloat16.h"
#include "services/model/kernels/cpu/lanes_body.h"

namespace rollcall::ROLLCALL_ISA {

constexpr uint32_t kUpperHalf = 0xffff0000U;

ROLLCALL_INLINE F32x16 SetBits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return Set(x);
}

// The same on every instruction set, subnormal numbers included.
ROLLCALL_INLINE F32x16 RoundToBf16(F32x16 a) {
  const F32x16 lowest_kept_bit = And(ShiftRight16(a), 1);
  const F32x16 rounded = AddBits(AddBits(a, SetBits(0x7fff)), lowest_kept_bit);
  return And(SelectNan(a, Or(a, SetBits(0x00400000)), rounded), kUpperHalf);
}

ROLLCALL_INLINE F32x16 FirstOfPairs(F32x16 pairs) { return And(pairs, kUpperHalf); }
ROLLCALL_INLINE F32x16 SecondOfPairs(F32x16 pairs) { return ShiftLeft16(pairs); }
ROLLCALL_INLINE F32x16 MakePairs(F32x16 first, F32x16 second) {
  return Or(RoundToBf16(first), ShiftRight16(RoundToBf16(second)));
}

// acc plus the product of the first ones, then plus that of the second ones, each sum rounded.
// Products of two bfloat16 are exact in float32, so it does not matter whether they are fused.
// vdpbf16ps does just that, from the upper half down, but takes subnormal numbers for zero.
ROLLCALL_INLINE F32x16 DotPairs(F32x16 acc, F32x16 a, F32x16 b) {
#if defined(__AVX512BF16__)
  return {
      _mm512_dpbf16_ps(acc.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
#else
  acc = Fma(FirstOfPairs(a), FirstOfPairs(b), acc);
  return Fma(SecondOfPairs(a), SecondOfPairs(b), acc);
#endif
}

// Elements 0, 2, 4, .. and 1, 3, 5, .. of 32 at p.
struct EvenAndOdd {
  F32x16 even, odd;
};
ROLLCALL_INLINE EvenAndOdd LoadEvenAndOdd(const float* p) {
#if defined(__AVX512F__)
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  const __m512 low = _mm512_loadu_ps(p);
  const __m512 high = _mm512_loadu_ps(p + kLanes);
  return {{_mm512_permutex2var_ps(low, even, high)}, {_mm512_permutex2var_ps(low, odd, high)}};
#else
  alignas(64) float even[kLanes];
  alignas(64) float odd[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    even[i] = p[2 * i];
    odd[i] = p[2 * i + 1];
  }
  return {Load(even), Load(odd)};
#endif
}

// Pairs of neighbours of a row: NumBf16Pairs(size) of them.
static void PairNeighbours(const float* x, int64_t size, float* pairs) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
    const EvenAndOdd both = LoadEvenAndOdd(x + i);
    Store(pairs + i / 2, MakePairs(both.even, both.odd));
  }
  if (i == size) return;
  alignas(64) float rest[2 * kLanes] = {};
  memcpy(rest, x + i, static_cast<size_t>(size - i) * sizeof(float));
  const EvenAndOdd both = LoadEvenAndOdd(rest);
  StoreFirst(pairs + i / 2, (size - i + 1) / 2, MakePairs(both.even, both.odd));
}

static float* Lanes(Bf16Pair* pairs) { return reinterpret_cast<float*>(pairs); }
static const float* Lanes(const Bf16Pair* pairs) { return reinterpret_cast<const float*>(pairs); }

static void RoundRows(const float* x, int64_t num_rows, int64_t width, Bf16Pair* pairs) {
  for (int64_t n = 0; n < num_rows; ++n) {
    PairNeighbours(x + n * width, width, Lanes(pairs) + n * NumBf16Pairs(width));
  }
}

static void RoundValues(const float* x, int64_t size, float* y) {
  for (int64_t i = 0; i < size; i += kLanes) {
    StoreUpTo(y + i, size - i, RoundToBf16(LoadUpTo(x + i, size - i)));
  }
}

}  // namespace rollcall::ROLLCALL_ISA
