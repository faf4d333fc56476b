// Sixteen float lanes, the unit in which every kernel of this folder is written. The including
// source is compiled with the flags of one instruction set and has defined ROLLCALL_ISA; all that
// is here lives in a namespace of that name, so that code of two instruction sets never meets
// under one symbol. For the same reason nothing of the standard library but C headers is used.
//
// All three versions do the same operations in the same order on the same sixteen lanes. Where
// the machine has fused multiply-add the results are the same bits; without it Fma rounds twice.
// A lane's result never depends on its position or on the other lanes.
#pragma once

#ifndef ROLLCALL_ISA
#error "include from kernels_<isa>.cc only"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define ROLLCALL_INLINE static inline __attribute__((always_inline))

namespace rollcall::ROLLCALL_ISA {

constexpr int kLanes = 16;

#if defined(__AVX512F__)

struct F32x16 {
  __m512 v;
};

ROLLCALL_INLINE __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>((1U << count) - 1U);
}
ROLLCALL_INLINE F32x16 Set(float x) { return {_mm512_set1_ps(x)}; }
ROLLCALL_INLINE F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
ROLLCALL_INLINE void Store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
// The first `count` (1..16) lanes; the others are `fill`.
ROLLCALL_INLINE F32x16 LoadFirst(const float* p, int64_t count, float fill = 0.0F) {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), FirstLanes(count), p)};
}
ROLLCALL_INLINE void StoreFirst(float* p, int64_t count, F32x16 a) {
  _mm512_mask_storeu_ps(p, FirstLanes(count), a.v);
}
ROLLCALL_INLINE F32x16 Add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
ROLLCALL_INLINE F32x16 Sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
ROLLCALL_INLINE F32x16 Mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
ROLLCALL_INLINE F32x16 Div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a * b + c
ROLLCALL_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
// a > b ? a : b, so b when either is NaN.
ROLLCALL_INLINE F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
ROLLCALL_INLINE F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
// 2^n for integral n in [-126, 127].
ROLLCALL_INLINE F32x16 PowerOfTwo(F32x16 n) {
  const __m512i bits =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23);
  return {_mm512_castsi512_ps(bits)};
}
// Zero in the lanes where x < bound.
ROLLCALL_INLINE F32x16 ZeroBelow(F32x16 a, F32x16 x, F32x16 bound) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, bound.v, _CMP_NLT_UQ), a.v)};
}
ROLLCALL_INLINE F32x16 And(F32x16 a, uint32_t bits) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(static_cast<int>(bits))))};
}
ROLLCALL_INLINE F32x16 Or(F32x16 a, F32x16 b) {
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
ROLLCALL_INLINE F32x16 ShiftLeft16(F32x16 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))};
}
ROLLCALL_INLINE F32x16 ShiftRight16(F32x16 a) {
  return {_mm512_castsi512_ps(_mm512_srli_epi32(_mm512_castps_si512(a.v), 16))};
}
// Lanes as integers, modulo 2^32.
ROLLCALL_INLINE F32x16 AddBits(F32x16 a, F32x16 b) {
  return {
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
// Lanes of `a`, but `other` where x is not a number.
ROLLCALL_INLINE F32x16 SelectNan(F32x16 x, F32x16 other, F32x16 a) {
  return {_mm512_mask_mov_ps(a.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), other.v)};
}
// Bit i is set where lane i of a is at least that of b.
ROLLCALL_INLINE uint32_t AtLeast(F32x16 a, F32x16 b) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ);
}
struct Halves {
  __m256 low, high;
};
ROLLCALL_INLINE Halves Split(F32x16 a) {
  return {_mm512_castps512_ps256(a.v),
          _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1))};
}

#elif defined(__AVX2__)

struct F32x16 {
  __m256 low, high;
};

ROLLCALL_INLINE F32x16 Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
ROLLCALL_INLINE F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
ROLLCALL_INLINE void Store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
ROLLCALL_INLINE F32x16 LoadFirst(const float* p, int64_t count, float fill = 0.0F) {
  alignas(32) float lanes[kLanes];
  Store(lanes, Set(fill));
  memcpy(lanes, p, static_cast<size_t>(count) * sizeof(float));
  return Load(lanes);
}
ROLLCALL_INLINE void StoreFirst(float* p, int64_t count, F32x16 a) {
  alignas(32) float lanes[kLanes];
  Store(lanes, a);
  memcpy(p, lanes, static_cast<size_t>(count) * sizeof(float));
}
ROLLCALL_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
ROLLCALL_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
ROLLCALL_INLINE __m256 PowerOfTwo8(__m256 n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
ROLLCALL_INLINE F32x16 PowerOfTwo(F32x16 n) { return {PowerOfTwo8(n.low), PowerOfTwo8(n.high)}; }
ROLLCALL_INLINE F32x16 ZeroBelow(F32x16 a, F32x16 x, F32x16 bound) {
  return {_mm256_and_ps(a.low, _mm256_cmp_ps(x.low, bound.low, _CMP_NLT_UQ)),
          _mm256_and_ps(a.high, _mm256_cmp_ps(x.high, bound.high, _CMP_NLT_UQ))};
}
ROLLCALL_INLINE F32x16 FromBits(__m256i low, __m256i high) {
  return {_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)};
}
ROLLCALL_INLINE __m256i LowBits(F32x16 a) { return _mm256_castps_si256(a.low); }
ROLLCALL_INLINE __m256i HighBits(F32x16 a) { return _mm256_castps_si256(a.high); }
ROLLCALL_INLINE F32x16 And(F32x16 a, uint32_t bits) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(bits));
  return FromBits(_mm256_and_si256(LowBits(a), mask), _mm256_and_si256(HighBits(a), mask));
}
ROLLCALL_INLINE F32x16 Or(F32x16 a, F32x16 b) {
  return {_mm256_or_ps(a.low, b.low), _mm256_or_ps(a.high, b.high)};
}
ROLLCALL_INLINE F32x16 ShiftLeft16(F32x16 a) {
  return FromBits(_mm256_slli_epi32(LowBits(a), 16), _mm256_slli_epi32(HighBits(a), 16));
}
ROLLCALL_INLINE F32x16 ShiftRight16(F32x16 a) {
  return FromBits(_mm256_srli_epi32(LowBits(a), 16), _mm256_srli_epi32(HighBits(a), 16));
}
ROLLCALL_INLINE F32x16 AddBits(F32x16 a, F32x16 b) {
  return FromBits(_mm256_add_epi32(LowBits(a), LowBits(b)),
                  _mm256_add_epi32(HighBits(a), HighBits(b)));
}
ROLLCALL_INLINE F32x16 SelectNan(F32x16 x, F32x16 other, F32x16 a) {
  return {_mm256_blendv_ps(a.low, other.low, _mm256_cmp_ps(x.low, x.low, _CMP_UNORD_Q)),
          _mm256_blendv_ps(a.high, other.high, _mm256_cmp_ps(x.high, x.high, _CMP_UNORD_Q))};
}
ROLLCALL_INLINE uint32_t AtLeast(F32x16 a, F32x16 b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GE_OQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GE_OQ));
  return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 8;
}
using Halves = F32x16;
ROLLCALL_INLINE Halves Split(F32x16 a) { return a; }

#else

struct F32x16 {
  float v[kLanes];
};

#define ROLLCALL_EACH_LANE for (int i = 0; i < kLanes; ++i)

ROLLCALL_INLINE F32x16 Set(float x) {
  F32x16 r;
  ROLLCALL_EACH_LANE r.v[i] = x;
  return r;
}
ROLLCALL_INLINE F32x16 Load(const float* p) {
  F32x16 r;
  memcpy(r.v, p, sizeof(r.v));
  return r;
}
ROLLCALL_INLINE void Store(float* p, F32x16 a) { memcpy(p, a.v, sizeof(a.v)); }
ROLLCALL_INLINE F32x16 LoadFirst(const float* p, int64_t count, float fill = 0.0F) {
  F32x16 r = Set(fill);
  memcpy(r.v, p, static_cast<size_t>(count) * sizeof(float));
  return r;
}
ROLLCALL_INLINE void StoreFirst(float* p, int64_t count, F32x16 a) {
  memcpy(p, a.v, static_cast<size_t>(count) * sizeof(float));
}
ROLLCALL_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] += b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] -= b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] *= b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] /= b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
#if defined(__FP_FAST_FMAF)
  ROLLCALL_EACH_LANE a.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
#else
  ROLLCALL_EACH_LANE a.v[i] = a.v[i] * b.v[i] + c.v[i];
#endif
  return a;
}
ROLLCALL_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  ROLLCALL_EACH_LANE a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
ROLLCALL_INLINE F32x16 PowerOfTwo(F32x16 n) {
  ROLLCALL_EACH_LANE {
    // NaN has no integer; the factor it meets is NaN already.
    const float safe = n.v[i] == n.v[i] ? n.v[i] : 0.0F;
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(safe) + 127) << 23;
    memcpy(&n.v[i], &bits, sizeof(bits));
  }
  return n;
}
ROLLCALL_INLINE F32x16 ZeroBelow(F32x16 a, F32x16 x, F32x16 bound) {
  ROLLCALL_EACH_LANE a.v[i] = x.v[i] < bound.v[i] ? 0.0F : a.v[i];
  return a;
}
struct Bits {
  uint32_t v[kLanes];
};
ROLLCALL_INLINE Bits BitsOf(F32x16 a) {
  Bits bits;
  memcpy(bits.v, a.v, sizeof(bits.v));
  return bits;
}
ROLLCALL_INLINE F32x16 FromBits(Bits bits) {
  F32x16 r;
  memcpy(r.v, bits.v, sizeof(r.v));
  return r;
}
ROLLCALL_INLINE F32x16 And(F32x16 a, uint32_t bits) {
  Bits r = BitsOf(a);
  ROLLCALL_EACH_LANE r.v[i] &= bits;
  return FromBits(r);
}
ROLLCALL_INLINE F32x16 Or(F32x16 a, F32x16 b) {
  Bits r = BitsOf(a);
  const Bits other = BitsOf(b);
  ROLLCALL_EACH_LANE r.v[i] |= other.v[i];
  return FromBits(r);
}
ROLLCALL_INLINE F32x16 ShiftLeft16(F32x16 a) {
  Bits r = BitsOf(a);
  ROLLCALL_EACH_LANE r.v[i] <<= 16;
  return FromBits(r);
}
ROLLCALL_INLINE F32x16 ShiftRight16(F32x16 a) {
  Bits r = BitsOf(a);
  ROLLCALL_EACH_LANE r.v[i] >>= 16;
  return FromBits(r);
}
ROLLCALL_INLINE F32x16 AddBits(F32x16 a, F32x16 b) {
  Bits r = BitsOf(a);
  const Bits other = BitsOf(b);
  ROLLCALL_EACH_LANE r.v[i] += other.v[i];
  return FromBits(r);
}
ROLLCALL_INLINE F32x16 SelectNan(F32x16 x, F32x16 other, F32x16 a) {
  Bits r = BitsOf(a);
  const Bits chosen = BitsOf(other);
  ROLLCALL_EACH_LANE r.v[i] = x.v[i] == x.v[i] ? r.v[i] : chosen.v[i];
  return FromBits(r);
}
ROLLCALL_INLINE uint32_t AtLeast(F32x16 a, F32x16 b) {
  uint32_t bits = 0;
  ROLLCALL_EACH_LANE bits |= static_cast<uint32_t>(a.v[i] >= b.v[i]) << i;
  return bits;
}

#endif

#if defined(__AVX512F__) || defined(__AVX2__)

// Lane i with lane i+8, then i+4, i+2, i+1.
ROLLCALL_INLINE float ReduceAdd(F32x16 a) {
  const Halves halves = Split(a);
  const __m256 eight = _mm256_add_ps(halves.low, halves.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
ROLLCALL_INLINE float ReduceMax(F32x16 a) {
  const Halves halves = Split(a);
  const __m256 eight = _mm256_max_ps(halves.low, halves.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#else

ROLLCALL_INLINE float ReduceAdd(F32x16 a) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  }
  return a.v[0];
}
ROLLCALL_INLINE float ReduceMax(F32x16 a) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  }
  return a.v[0];
}

#endif

// e^x with a relative error below 2e-7; 0 under the smallest normal result, 2.4e38 at the top, NaN
// stays NaN. Cody-Waite reduction by ln 2 in two parts, then the Taylor terms up to r^7.
ROLLCALL_INLINE F32x16 Exp(F32x16 x) {
  const F32x16 lowest = Set(-87.33654F);
  const F32x16 clamped = Min(Set(88.37626F), Max(lowest, x));
  // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
  const F32x16 magic = Set(12582912.0F);
  const F32x16 n = Sub(Fma(clamped, Set(1.44269504088896341F), magic), magic);
  F32x16 r = Fma(n, Set(-0.693359375F), clamped);
  r = Fma(n, Set(2.12194440e-4F), r);
  F32x16 p = Set(1.9841270114e-4F);
  p = Fma(p, r, Set(1.3888889225e-3F));
  p = Fma(p, r, Set(8.3333337680e-3F));
  p = Fma(p, r, Set(4.1666667908e-2F));
  p = Fma(p, r, Set(1.6666667163e-1F));
  p = Fma(p, r, Set(0.5F));
  p = Fma(p, r, Set(1.0F));
  p = Fma(p, r, Set(1.0F));
  return ZeroBelow(Mul(p, PowerOfTwo(n)), x, lowest);
}

// dst[i * dst_stride + j] = src[j * src_stride + i] for i < rows, j < 16: sixteen source rows
// become sixteen columns.
ROLLCALL_INLINE void TransposeScalar(const float* src, ptrdiff_t src_stride, int64_t rows,
                                     int64_t columns, float* dst, ptrdiff_t dst_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) dst[i * dst_stride + j] = src[j * src_stride + i];
  }
}

#if defined(__AVX512F__) || defined(__AVX2__)

ROLLCALL_INLINE void Transpose8x8(const float* src, ptrdiff_t src_stride, float* dst,
                                  ptrdiff_t dst_stride) {
  __m256 r[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(src + i * src_stride);
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

#endif

// dst[i][j] = src[j][i] for i < rows (columns of src) and j < columns (rows of src).
ROLLCALL_INLINE void Transpose(const float* src, ptrdiff_t src_stride, int64_t rows,
                               int64_t columns, float* dst, ptrdiff_t dst_stride) {
  int64_t i = 0;
#if defined(__AVX512F__) || defined(__AVX2__)
  const int64_t whole_columns = columns / 8 * 8;
  for (; i + 8 <= rows; i += 8) {
    for (int64_t j = 0; j < whole_columns; j += 8) {
      Transpose8x8(src + j * src_stride + i, src_stride, dst + i * dst_stride + j, dst_stride);
    }
    TransposeScalar(src + whole_columns * src_stride + i, src_stride, 8, columns - whole_columns,
                    dst + i * dst_stride + whole_columns, dst_stride);
  }
#endif
  TransposeScalar(src + i, src_stride, rows - i, columns, dst + i * dst_stride, dst_stride);
}

}  // namespace rollcall::ROLLCALL_ISA
