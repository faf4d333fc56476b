// What drawing from a row of logits needs, for one instruction set; see kernels/log_softmax.h.
#pragma once

#include "services/model/kernels/cpu/rows_body.h"

namespace rollcall::ROLLCALL_ISA {

static MassSums SumMasses(const float* logits, int64_t width, float inverse_temperature,
                          float* sums) {
  const float lowest = -__builtin_inff();
  F32x16 max = Set(lowest);
  // x - x is 0 for a finite number only.
  F32x16 poison = Set(0.0F);
  for (int64_t v = 0; v < width; v += kLanes) {
    const F32x16 x = LoadUpTo(logits + v, width - v, logits[0]);
    max = Max(x, max);
    poison = Add(poison, Sub(x, x));
  }
  const float max_logit = ReduceMax(max);
  return {StatsBelow(logits, width, inverse_temperature, max_logit, sums), max_logit,
          ReduceAdd(poison) == 0.0F};
}

static void WriteMasses(const float* logits, int64_t count, float inverse_temperature, float max,
                        float* out) {
  const F32x16 scale = Set(inverse_temperature);
  const F32x16 max_all = Set(max);
  const F32x16 bound = Set(kLowestShift);
  for (int64_t v = 0; v < count; v += kLanes) {
    const int64_t left = count - v;
    const F32x16 x = LoadUpTo(logits + v, left);
    StoreUpTo(out + v, left, Exp(Max(bound, Sub(Mul(x, scale), max_all))));
  }
}

static MassAtLeast MassOfAtLeast(const float* logits, const float* masses, int64_t width,
                                 float bound) {
  const F32x16 bound_all = Set(bound);
  MassAtLeast result;
  for (int64_t begin = 0; begin < width; begin += kMassBlock) {
    const int64_t end = begin + kMassBlock < width ? begin + kMassBlock : width;
    F32x16 sum = Set(0.0F);
    for (int64_t v = begin; v < end; v += kLanes) {
      const int64_t left = width - v;
      const F32x16 x = LoadUpTo(logits + v, left, -__builtin_inff());
      uint32_t bits = AtLeast(x, bound_all);
      if (left < kLanes) bits &= (1U << left) - 1U;
      result.count += __builtin_popcount(bits);
      sum = Add(sum, ZeroBelow(LoadUpTo(masses + v, left), x, bound_all));
    }
    result.mass += static_cast<double>(ReduceAdd(sum));
  }
  return result;
}

static int64_t SelectAtLeast(const float* values, int64_t width, float bound, int32_t* out) {
  const F32x16 bound_all = Set(bound);
  int64_t count = 0;
  for (int64_t v = 0; v < width; v += kLanes) {
    const int64_t left = width - v;
    uint32_t bits = AtLeast(LoadUpTo(values + v, left), bound_all);
    if (left < kLanes) bits &= (1U << left) - 1U;
    for (; bits != 0; bits &= bits - 1U) {
      out[count++] = static_cast<int32_t>(v + __builtin_ctz(bits));
    }
  }
  return count;
}

}  // namespace rollcall::ROLLCALL_ISA
