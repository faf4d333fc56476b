// Rotary embedding, sums and log-softmax for one instruction set; see kernels/*.h.
#pragma once

#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/log_softmax.h"
#include "services/model/kernels/rotary.h"

namespace rollcall::ROLLCALL_ISA {

static void Rotary(const RotaryArgs& args) {
  const int64_t half = args.rotary_dim / 2;
  const F32x16 direction = Set(args.direction);
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* cosines = args.table + static_cast<int64_t>(args.positions[n]) * args.rotary_dim;
    const float* sines = cosines + half;
    for (int64_t h = 0; h < args.num_heads; ++h) {
      float* low = args.x + (n * args.num_heads + h) * args.head_dim;
      float* high = low + half;
      for (int64_t i = 0; i < half; i += kLanes) {
        const int64_t left = half - i;
        const F32x16 c = LoadUpTo(cosines + i, left);
        const F32x16 s = Mul(LoadUpTo(sines + i, left), direction);
        const F32x16 a = LoadUpTo(low + i, left);
        const F32x16 b = LoadUpTo(high + i, left);
        StoreUpTo(low + i, left, Sub(Mul(a, c), Mul(b, s)));
        StoreUpTo(high + i, left, Add(Mul(b, c), Mul(a, s)));
      }
    }
  }
}

static void AddRows(const float* a, const float* b, int64_t size, float* y) {
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t left = size - i;
    StoreUpTo(y + i, left, Add(LoadUpTo(a + i, left), LoadUpTo(b + i, left)));
  }
}

// A masked logit is -inf and has weight 0; the bound keeps 0 * -inf out of the entropy.
constexpr float kLowestShift = -1e30F;

// Statistics of a row whose largest logit is known. Where block_sums is not null, it gets the sum
// of the exponentials of each kMassBlock logits.
ROLLCALL_INLINE LogSoftmaxStats StatsBelow(const float* logits, int64_t width,
                                           float inverse_temperature, float max_logit,
                                           float* block_sums) {
  const F32x16 scale = Set(inverse_temperature);
  const float max_scaled = max_logit * inverse_temperature;
  const F32x16 max_all = Set(max_scaled);
  const F32x16 bound = Set(kLowestShift);
  F32x16 sum = Set(0.0F);
  F32x16 weighted = Set(0.0F);
  for (int64_t begin = 0; begin < width; begin += kMassBlock) {
    const int64_t end = begin + kMassBlock < width ? begin + kMassBlock : width;
    F32x16 block_sum = Set(0.0F);
    for (int64_t v = begin; v < end; v += kLanes) {
      const F32x16 x = LoadUpTo(logits + v, width - v, -__builtin_inff());
      const F32x16 shifted = Max(bound, Sub(Mul(x, scale), max_all));
      const F32x16 e = Exp(shifted);
      sum = Add(sum, e);
      weighted = Fma(e, shifted, weighted);
      if (block_sums != nullptr) block_sum = Add(block_sum, e);
    }
    if (block_sums != nullptr) block_sums[begin / kMassBlock] = ReduceAdd(block_sum);
  }
  const float total = ReduceAdd(sum);
  const float log_sum = static_cast<float>(__builtin_log(static_cast<double>(total)));
  return {max_scaled, log_sum, log_sum - ReduceAdd(weighted) / total};
}

static LogSoftmaxStats LogSoftmaxRow(const float* logits, int64_t width,
                                     float inverse_temperature) {
  const float lowest = -__builtin_inff();
  F32x16 max = Set(lowest);
  for (int64_t v = 0; v < width; v += kLanes) {
    max = Max(LoadUpTo(logits + v, width - v, lowest), max);
  }
  return StatsBelow(logits, width, inverse_temperature, ReduceMax(max), nullptr);
}

static void LogSoftmaxWrite(const float* logits, int64_t count, float inverse_temperature,
                            const LogSoftmaxStats& stats, float* out) {
  const F32x16 scale = Set(inverse_temperature);
  const F32x16 max = Set(stats.max);
  const F32x16 log_sum = Set(stats.log_sum);
  for (int64_t v = 0; v < count; v += kLanes) {
    const int64_t left = count - v;
    StoreUpTo(out + v, left, Sub(Sub(Mul(LoadUpTo(logits + v, left), scale), max), log_sum));
  }
}

// With s the scaled logits, p their softmax and H its entropy: d log p[t] / ds[v] = [v = t] - p[v],
// dH / ds[v] = -p[v] * (log p[v] + H).
static void LogSoftmaxGrad(const LogSoftmaxGradArgs& args) {
  const F32x16 scale = Set(args.inverse_temperature);
  const F32x16 max = Set(args.stats.max);
  const F32x16 log_sum = Set(args.stats.log_sum);
  const F32x16 entropy = Set(args.stats.entropy);
  const F32x16 dlogprob = Set(args.dlogprob);
  const F32x16 dentropy = Set(args.dentropy);
  const F32x16 bound = Set(-1e30F);
  for (int64_t v = 0; v < args.width; v += kLanes) {
    const int64_t left = args.width - v;
    const F32x16 logp =
        Max(bound, Sub(Sub(Mul(LoadUpTo(args.logits + v, left), scale), max), log_sum));
    const F32x16 p = Exp(logp);
    const F32x16 slope = Fma(dentropy, Add(logp, entropy), dlogprob);
    StoreUpTo(args.dlogits + v, left, Mul(Mul(Sub(Set(0.0F), p), slope), scale));
  }
  args.dlogits[args.target] += args.dlogprob * args.inverse_temperature;
}

}  // namespace rollcall::ROLLCALL_ISA
