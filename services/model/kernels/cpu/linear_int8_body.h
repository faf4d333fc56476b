// Products of int8 weights and inputs for one instruction set; see kernels/linear.h.
#pragma once

#include "services/model/kernels/cpu/bfloat16_body.h"
#include "services/model/kernels/cpu/lane_product_body.h"
#include "services/model/kernels/cpu/linear_body.h"
#include "services/model/kernels/cpu/math_body.h"

namespace rollcall::ROLLCALL_ISA {

// Lanes of int32 that travel as floats.
#if defined(__AVX512F__)
ROLLCALL_INLINE F32x16 FromIntegers(F32x16 a) {
  return {_mm512_cvtepi32_ps(_mm512_castps_si512(a.v))};
}
#elif defined(__AVX2__)
ROLLCALL_INLINE F32x16 FromIntegers(F32x16 a) {
  return {_mm256_cvtepi32_ps(LowBits(a)), _mm256_cvtepi32_ps(HighBits(a))};
}
#else
ROLLCALL_INLINE F32x16 FromIntegers(F32x16 a) {
  const Bits bits = BitsOf(a);
  ROLLCALL_EACH_LANE a.v[i] = static_cast<float>(static_cast<int32_t>(bits.v[i]));
  return a;
}
#endif

#if defined(__AVX2__)
// Four unsigned times four signed bytes, exact: bytes widen to 16 bits, even and odd ones apart.
ROLLCALL_INLINE __m256i DotQuads8(__m256i acc, __m256i x, __m256i w) {
  const __m256i x_even = _mm256_and_si256(x, _mm256_set1_epi16(0xff));
  const __m256i x_odd = _mm256_srli_epi16(x, 8);
  const __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
  const __m256i w_odd = _mm256_srai_epi16(w, 8);
  return _mm256_add_epi32(
      acc, _mm256_add_epi32(_mm256_madd_epi16(x_even, w_even), _mm256_madd_epi16(x_odd, w_odd)));
}
#endif

// acc plus the products of four unsigned bytes of x and four signed ones of w, in int32.
ROLLCALL_INLINE F32x16 DotQuads(F32x16 acc, F32x16 x, F32x16 w) {
#if defined(__AVX512VNNI__)
  return {_mm512_castsi512_ps(_mm512_dpbusd_epi32(
      _mm512_castps_si512(acc.v), _mm512_castps_si512(x.v), _mm512_castps_si512(w.v)))};
#elif defined(__AVX512F__)
  const Halves a = Split(acc);
  const Halves b = Split(x);
  const Halves c = Split(w);
  const auto half = [](__m256 acc8, __m256 x8, __m256 w8) __attribute__((always_inline)) {
    return DotQuads8(_mm256_castps_si256(acc8), _mm256_castps_si256(x8), _mm256_castps_si256(w8));
  };
  return {_mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(half(a.low, b.low, c.low)),
                                                 half(a.high, b.high, c.high), 1))};
#elif defined(__AVX2__)
  return FromBits(DotQuads8(LowBits(acc), LowBits(x), LowBits(w)),
                  DotQuads8(HighBits(acc), HighBits(x), HighBits(w)));
#else
  Bits sum = BitsOf(acc);
  const Bits a = BitsOf(x);
  const Bits b = BitsOf(w);
  ROLLCALL_EACH_LANE {
    for (int shift = 0; shift < 32; shift += 8) {
      const auto x_byte = static_cast<int32_t>(a.v[i] >> shift & 0xffU);
      const auto w_byte = static_cast<int8_t>(b.v[i] >> shift & 0xffU);
      sum.v[i] += static_cast<uint32_t>(x_byte * w_byte);
    }
  }
  return FromBits(sum);
#endif
}

// A panel's head: 32 scales, then 32 times minus what the offset of x adds to a sum.
struct QuadOp {
  static constexpr int64_t kHeadSteps = 2;
  ROLLCALL_INLINE F32x16 Dot(F32x16 acc, F32x16 x, F32x16 w) { return DotQuads(acc, x, w); }
  ROLLCALL_INLINE F32x16 Finish(F32x16 acc, float x_scale, const float* head) {
    const F32x16 sum = FromIntegers(AddBits(acc, Load(head + kPanelColumns)));
    return Mul(Mul(sum, Set(x_scale)), Load(head));
  }
};

struct RowScale {
  float scale;    // of one step
  float inverse;  // steps of one
};

// NaN where the row holds something that is not finite, so that the result says so.
static RowScale ScaleOfRow(const float* x, int64_t width) {
  F32x16 largest = Set(0.0F);
  F32x16 zeros = Set(0.0F);
  for (int64_t i = 0; i < width; i += kLanes) {
    const F32x16 x_i = LoadUpTo(x + i, width - i);
    largest = Max(Abs(x_i), largest);
    zeros = Fma(x_i, Set(0.0F), zeros);
  }
  const float max = ReduceMax(largest);
  const float scale = max * (1.0F / kInt8Steps) + ReduceAdd(zeros);
  return {scale, max > 0 ? static_cast<float>(kInt8Steps) / max : 0.0F};
}

// Bytes that hold the nearest step plus 128, ties to even.
static void QuantizeRow(const float* x, int64_t width, float inverse, uint8_t* bytes) {
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const F32x16 magic = Set(12582912.0F + 128.0F);
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t left = width - i;
    const F32x16 steps = Add(Mul(LoadUpTo(x + i, left), Set(inverse)), magic);
#if defined(__AVX512F__)
    if (left >= kLanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i),
                       _mm512_cvtepi32_epi8(_mm512_castps_si512(steps.v)));
      continue;
    }
#endif
    alignas(64) float lanes[kLanes];
    Store(lanes, steps);
    for (int64_t j = 0; j < left && j < kLanes; ++j) {
      uint32_t bits;
      memcpy(&bits, lanes + j, sizeof(bits));
      bytes[i + j] = static_cast<uint8_t>(bits);
    }
  }
}

static void QuantizeRows(const float* x, int64_t num_rows, int64_t width, Int8Quad* quads,
                         float* scales) {
  const int64_t num_quads = NumInt8Quads(width);
  for (int64_t n = 0; n < num_rows; ++n) {
    const RowScale row = ScaleOfRow(x + n * width, width);
    scales[n] = row.scale;
    quads[(n + 1) * num_quads - 1] = 0;
    QuantizeRow(x + n * width, width, row.inverse,
                reinterpret_cast<uint8_t*>(quads + n * num_quads));
  }
}

static void PackLinearInt8(const float* w, int64_t num_outputs, int64_t depth, Int8Quad* packed) {
  const int64_t num_quads = NumInt8Quads(depth);
  for (int64_t first = 0; first < num_outputs; first += kPanelColumns) {
    auto* panel = reinterpret_cast<float*>(packed) + first * (QuadOp::kHeadSteps + num_quads);
    float* quads = panel + QuadOp::kHeadSteps * kPanelColumns;
    memset(panel, 0,
           static_cast<size_t>((QuadOp::kHeadSteps + num_quads) * kPanelColumns) * sizeof(float));
    for (int64_t j = 0; j < kPanelColumns && first + j < num_outputs; ++j) {
      const float* row = w + (first + j) * depth;
      const RowScale scale = ScaleOfRow(row, depth);
      int32_t sum = 0;
      for (int64_t i = 0; i < num_quads; ++i) {
        uint8_t bytes[4] = {128, 128, 128, 128};
        const int64_t left = depth - 4 * i;
        QuantizeRow(row + 4 * i, left < 4 ? left : 4, scale.inverse, bytes);
        for (uint8_t& byte : bytes) {
          byte = static_cast<uint8_t>(byte ^ 0x80U);
          sum += static_cast<int8_t>(byte);
        }
        memcpy(quads + i * kPanelColumns + j, bytes, sizeof(bytes));
      }
      panel[j] = scale.scale;
      const int32_t offset = -128 * sum;
      memcpy(panel + kPanelColumns + j, &offset, sizeof(offset));
    }
  }
}

static void LinearInt8(const Int8LinearArgs& args) {
  const LaneProduct p{.x = reinterpret_cast<const float*>(args.x),
                      .x_scales = args.x_scales,
                      .num_rows = args.num_rows,
                      .num_steps = NumInt8Quads(args.depth),
                      .num_outputs = args.num_outputs,
                      .packed = reinterpret_cast<const float*>(args.packed),
                      .y = args.y,
                      .y_stride = args.y_stride == 0 ? args.num_outputs : args.y_stride};
  LaneBlocked<QuadOp>(p, LaneWide<QuadOp>(p), [](int64_t, int64_t, int64_t, float*) {});
  AddBias(args.bias, p.num_rows, p.num_outputs, p.y, p.y_stride);
}

}  // namespace rollcall::ROLLCALL_ISA
