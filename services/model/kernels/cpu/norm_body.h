// The norms for one instruction set; see kernels/rms_norm.h and layer_norm.h.
#pragma once

#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/layer_norm.h"
#include "services/model/kernels/rms_norm.h"

namespace rollcall::ROLLCALL_ISA {

static float InverseRms(const float* x, int64_t width, double eps) {
  F32x16 sum = Set(0.0F);
  for (int64_t i = 0; i < width; i += kLanes) {
    const F32x16 v = LoadUpTo(x + i, width - i);
    sum = Fma(v, v, sum);
  }
  const double mean = static_cast<double>(ReduceAdd(sum)) / static_cast<double>(width);
  return static_cast<float>(1.0 / __builtin_sqrt(mean + eps));
}

static void RmsNorm(const RmsNormArgs& args) {
  const F32x16 offset = Set(args.weight_offset);
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* x = args.x + n * args.width;
    float* y = args.y + n * args.width;
    const F32x16 inverse = Set(InverseRms(x, args.width, args.eps));
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 w = Add(LoadUpTo(args.w + i, left), offset);
      StoreUpTo(y + i, left, Mul(Mul(LoadUpTo(x + i, left), inverse), w));
    }
  }
}

// With r the inverse root: dx = r * (dy * w) - x * r^3 / E * sum(dy * w * x), dw = dy * x * r.
static void RmsNormGrad(const RmsNormGradArgs& args) {
  const F32x16 offset = Set(args.weight_offset);
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* x = args.x + n * args.width;
    const float* dy = args.dy + n * args.width;
    float* dx = args.dx + n * args.width;
    const float inverse = InverseRms(x, args.width, args.eps);
    const F32x16 inverse_all = Set(inverse);
    F32x16 sum = Set(0.0F);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 x_i = LoadUpTo(x + i, left);
      const F32x16 dy_i = LoadUpTo(dy + i, left);
      const F32x16 w = Add(LoadUpTo(args.w + i, left), offset);
      sum = Fma(Mul(dy_i, w), x_i, sum);
      const F32x16 dw = LoadUpTo(args.dw + i, left);
      StoreUpTo(args.dw + i, left, Fma(dy_i, Mul(x_i, inverse_all), dw));
    }
    const float factor =
        -inverse * inverse * inverse * ReduceAdd(sum) / static_cast<float>(args.width);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 w = Add(LoadUpTo(args.w + i, left), offset);
      const F32x16 scaled = Mul(Mul(LoadUpTo(dy + i, left), w), inverse_all);
      StoreUpTo(dx + i, left, Fma(LoadUpTo(x + i, left), Set(factor), scaled));
    }
  }
}

struct RowMoments {
  float mean;
  float inverse;  // of the deviation
};

static RowMoments MomentsOf(const float* x, int64_t width, double eps) {
  F32x16 sum = Set(0.0F);
  for (int64_t i = 0; i < width; i += kLanes) sum = Add(sum, LoadUpTo(x + i, width - i));
  const float mean =
      static_cast<float>(static_cast<double>(ReduceAdd(sum)) / static_cast<double>(width));
  F32x16 square = Set(0.0F);
  for (int64_t i = 0; i < width; i += kLanes) {
    const F32x16 centred = Sub(LoadUpTo(x + i, width - i, mean), Set(mean));
    square = Fma(centred, centred, square);
  }
  const double variance = static_cast<double>(ReduceAdd(square)) / static_cast<double>(width);
  return {mean, static_cast<float>(1.0 / __builtin_sqrt(variance + eps))};
}

static void LayerNorm(const LayerNormArgs& args) {
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* x = args.x + n * args.width;
    float* y = args.y + n * args.width;
    const RowMoments moments = MomentsOf(x, args.width, args.eps);
    const F32x16 mean = Set(moments.mean);
    const F32x16 inverse = Set(moments.inverse);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 normal = Mul(Sub(LoadUpTo(x + i, left), mean), inverse);
      StoreUpTo(y + i, left, Fma(normal, LoadUpTo(args.w + i, left), LoadUpTo(args.b + i, left)));
    }
  }
}

// With n the normal values, r the inverse deviation and g = dy * w:
// dx = r * (g - mean(g) - n * mean(g * n)), dw = dy * n, db = dy.
static void LayerNormGrad(const LayerNormGradArgs& args) {
  const auto width = static_cast<float>(args.width);
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* x = args.x + n * args.width;
    const float* dy = args.dy + n * args.width;
    float* dx = args.dx + n * args.width;
    const RowMoments moments = MomentsOf(x, args.width, args.eps);
    const F32x16 mean = Set(moments.mean);
    const F32x16 inverse = Set(moments.inverse);
    F32x16 sum = Set(0.0F);
    F32x16 product = Set(0.0F);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 normal = Mul(Sub(LoadUpTo(x + i, left), mean), inverse);
      const F32x16 dy_i = LoadUpTo(dy + i, left);
      const F32x16 g = Mul(dy_i, LoadUpTo(args.w + i, left));
      sum = Add(sum, g);
      product = Fma(g, normal, product);
      StoreUpTo(args.dw + i, left, Fma(dy_i, normal, LoadUpTo(args.dw + i, left)));
      StoreUpTo(args.db + i, left, Add(dy_i, LoadUpTo(args.db + i, left)));
    }
    const F32x16 mean_g = Set(ReduceAdd(sum) / width);
    const F32x16 mean_product = Set(ReduceAdd(product) / width);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 normal = Mul(Sub(LoadUpTo(x + i, left), mean), inverse);
      const F32x16 g = Mul(LoadUpTo(dy + i, left), LoadUpTo(args.w + i, left));
      StoreUpTo(dx + i, left, Mul(Sub(Sub(g, mean_g), Mul(normal, mean_product)), inverse));
    }
  }
}

}  // namespace rollcall::ROLLCALL_ISA
