// Functions of sixteen lanes that simd.h's operations make up, with the same promise: a lane's
// result never depends on its position or on the other lanes. The coefficients are least-squares
// fits of the named function with the relative error as weight.
#pragma once

#include "services/model/kernels/cpu/simd.h"

namespace rollcall::ROLLCALL_ISA {

ROLLCALL_INLINE F32x16 Abs(F32x16 x) { return Max(Sub(Set(0.0F), x), x); }

// Lanes of `below` where x < bound, else those of `other`; both finite.
ROLLCALL_INLINE F32x16 SelectBelow(F32x16 x, F32x16 bound, F32x16 below, F32x16 other) {
  return Add(ZeroBelow(other, x, bound), Sub(below, ZeroBelow(below, x, bound)));
}

// 1 / (1 + e^-x)
ROLLCALL_INLINE F32x16 Sigmoid(F32x16 x) {
  const F32x16 one = Set(1.0F);
  return Div(one, Add(one, Exp(Sub(Set(0.0F), x))));
}

// Relative error below 4e-7. x + x * u * p(u) with u = x^2 near zero, 1 - 2 / (e^2|x| + 1) beyond.
ROLLCALL_INLINE F32x16 Tanh(F32x16 x) {
  const F32x16 limit = Set(0.625F);
  const F32x16 one = Set(1.0F);
  const F32x16 size = Abs(x);
  const F32x16 bounded = Min(Set(20.0F), size);  // there the result is 1; keeps e^2|x| finite
  const F32x16 far = Sub(one, Div(Set(2.0F), Add(Exp(Add(bounded, bounded)), one)));
  const F32x16 near_size = Min(limit, size);
  const F32x16 u = Mul(near_size, near_size);
  F32x16 p = Set(-5.6039197370409966e-3F);
  p = Fma(p, u, Set(2.0551724359393120e-2F));
  p = Fma(p, u, Set(-5.3714107722043991e-2F));
  p = Fma(p, u, Set(1.3331152498722076e-1F));
  p = Fma(p, u, Set(-3.3333271741867065e-1F));
  const F32x16 near = Fma(Mul(near_size, u), p, near_size);
  const F32x16 result = SelectBelow(size, limit, near, far);
  // Odd: the sign of x. NaN went through Exp into `far`.
  const F32x16 sign = Sub(ZeroBelow(Set(2.0F), x, Set(0.0F)), one);
  return Mul(result, sign);
}

struct Normal {
  F32x16 below;    // probability that a standard normal variable is below x; error below 4e-7
  F32x16 density;  // e^(-x^2/2) / sqrt(2 pi)
};

// The tail beyond z = |x| is e^(-z^2/2) * q(t), t = 1 / (1 + 0.33 z).
ROLLCALL_INLINE Normal NormalOf(F32x16 x) {
  const F32x16 one = Set(1.0F);
  const F32x16 z = Abs(x);
  const F32x16 t = Div(one, Fma(z, Set(0.33F), one));
  const F32x16 bell = Exp(Mul(Mul(z, z), Set(-0.5F)));
  F32x16 q = Set(-2.1569898352026939e-2F);
  q = Fma(q, t, Set(1.2671782076358795e-1F));
  q = Fma(q, t, Set(-2.7454471588134766e-1F));
  q = Fma(q, t, Set(2.3284578323364258e-1F));
  q = Fma(q, t, Set(-6.2045741826295853e-2F));
  q = Fma(q, t, Set(1.2409647554159164e-1F));
  q = Fma(q, t, Set(1.1050399392843246e-1F));
  q = Fma(q, t, Set(1.3237836956977844e-1F));
  q = Fma(q, t, Set(1.3161791861057281e-1F));
  const F32x16 tail = Mul(bell, Mul(q, t));
  return {SelectBelow(x, Set(0.0F), tail, Sub(one, tail)), Mul(bell, Set(0.3989422804014327F))};
}

}  // namespace rollcall::ROLLCALL_ISA
