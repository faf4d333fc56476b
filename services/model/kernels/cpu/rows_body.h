// The row-wise and element-wise kernels for one instruction set; see kernels/*.h.
#pragma once

#include "services/model/kernels/cpu/simd.h"
#include "services/model/kernels/log_softmax.h"
#include "services/model/kernels/rms_norm.h"
#include "services/model/kernels/rotary.h"
#include "services/model/kernels/swiglu.h"

namespace rollcall::ROLLCALL_ISA {

// Loads and stores `count` lanes, all sixteen without a detour.
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
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* x = args.x + n * args.width;
    float* y = args.y + n * args.width;
    const F32x16 inverse = Set(InverseRms(x, args.width, args.eps));
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      StoreUpTo(y + i, left, Mul(Mul(LoadUpTo(x + i, left), inverse), LoadUpTo(args.w + i, left)));
    }
  }
}

// With r the inverse root: dx = r * (dy * w) - x * r^3 / E * sum(dy * w * x), dw = dy * x * r.
static void RmsNormGrad(const RmsNormGradArgs& args) {
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
      sum = Fma(Mul(dy_i, LoadUpTo(args.w + i, left)), x_i, sum);
      const F32x16 dw = LoadUpTo(args.dw + i, left);
      StoreUpTo(args.dw + i, left, Fma(dy_i, Mul(x_i, inverse_all), dw));
    }
    const float factor =
        -inverse * inverse * inverse * ReduceAdd(sum) / static_cast<float>(args.width);
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const int64_t left = args.width - i;
      const F32x16 scaled =
          Mul(Mul(LoadUpTo(dy + i, left), LoadUpTo(args.w + i, left)), inverse_all);
      StoreUpTo(dx + i, left, Fma(LoadUpTo(x + i, left), Set(factor), scaled));
    }
  }
}

static void Rotary(const RotaryArgs& args) {
  const int64_t half = args.head_dim / 2;
  const F32x16 direction = Set(args.direction);
  for (int64_t n = 0; n < args.num_rows; ++n) {
    const float* cosines = args.table + static_cast<int64_t>(args.positions[n]) * args.head_dim;
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

// 1 / (1 + e^-x)
ROLLCALL_INLINE F32x16 Sigmoid(F32x16 x) {
  const F32x16 one = Set(1.0F);
  return Div(one, Add(one, Exp(Sub(Set(0.0F), x))));
}

static void Swiglu(const SwigluArgs& args) {
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    const F32x16 gate = LoadUpTo(args.gate + i, left);
    const F32x16 up = LoadUpTo(args.up + i, left);
    StoreUpTo(args.y + i, left, Mul(Mul(gate, Sigmoid(gate)), up));
  }
}

static void SwigluGrad(const SwigluGradArgs& args) {
  const F32x16 one = Set(1.0F);
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    const F32x16 gate = LoadUpTo(args.gate + i, left);
    const F32x16 up = LoadUpTo(args.up + i, left);
    const F32x16 dy = LoadUpTo(args.dy + i, left);
    const F32x16 sigmoid = Sigmoid(gate);
    const F32x16 slope = Mul(sigmoid, Fma(gate, Sub(one, sigmoid), one));
    StoreUpTo(args.dgate + i, left, Mul(Mul(dy, up), slope));
    StoreUpTo(args.dup + i, left, Mul(dy, Mul(gate, sigmoid)));
  }
}

static void AddRows(const float* a, const float* b, int64_t size, float* y) {
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t left = size - i;
    StoreUpTo(y + i, left, Add(LoadUpTo(a + i, left), LoadUpTo(b + i, left)));
  }
}

static LogSoftmaxStats LogSoftmaxRow(const float* logits, int64_t width,
                                     float inverse_temperature) {
  const float lowest = -__builtin_inff();
  const F32x16 scale = Set(inverse_temperature);
  F32x16 max = Set(lowest);
  for (int64_t v = 0; v < width; v += kLanes) {
    max = Max(LoadUpTo(logits + v, width - v, lowest), max);
  }
  const float max_scaled = ReduceMax(max) * inverse_temperature;
  const F32x16 max_all = Set(max_scaled);
  // A masked logit is -inf and has weight 0; the bound keeps 0 * -inf out of the entropy.
  const F32x16 bound = Set(-1e30F);
  F32x16 sum = Set(0.0F);
  F32x16 weighted = Set(0.0F);
  for (int64_t v = 0; v < width; v += kLanes) {
    const F32x16 shifted =
        Max(bound, Sub(Mul(LoadUpTo(logits + v, width - v, lowest), scale), max_all));
    const F32x16 e = Exp(shifted);
    sum = Add(sum, e);
    weighted = Fma(e, shifted, weighted);
  }
  const float total = ReduceAdd(sum);
  const float log_sum = static_cast<float>(__builtin_log(static_cast<double>(total)));
  return {max_scaled, log_sum, log_sum - ReduceAdd(weighted) / total};
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
