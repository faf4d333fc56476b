// Activations and soft caps for one instruction set; see kernels/activation.h and soft_cap.h.
#pragma once

#include "services/model/kernels/activation.h"
#include "services/model/kernels/cpu/lanes_body.h"
#include "services/model/kernels/cpu/math_body.h"
#include "services/model/kernels/soft_cap.h"

namespace rollcall::ROLLCALL_ISA {

struct ValueAndSlope {
  F32x16 value;
  F32x16 slope;
};

struct Silu {
  ROLLCALL_INLINE F32x16 Value(F32x16 x) { return Mul(x, Sigmoid(x)); }
  ROLLCALL_INLINE ValueAndSlope Both(F32x16 x) {
    const F32x16 one = Set(1.0F);
    const F32x16 sigmoid = Sigmoid(x);
    return {Mul(x, sigmoid), Mul(sigmoid, Fma(x, Sub(one, sigmoid), one))};
  }
};

struct Gelu {
  ROLLCALL_INLINE F32x16 Value(F32x16 x) { return Mul(x, NormalOf(x).below); }
  ROLLCALL_INLINE ValueAndSlope Both(F32x16 x) {
    const Normal normal = NormalOf(x);
    return {Mul(x, normal.below), Fma(x, normal.density, normal.below)};
  }
};

// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
struct GeluTanh {
  static constexpr float kRoot = 0.7978845608028654F;
  static constexpr float kCubic = 0.044715F;
  ROLLCALL_INLINE F32x16 Inner(F32x16 x, F32x16 square) {
    return Mul(Set(kRoot), Mul(x, Fma(square, Set(kCubic), Set(1.0F))));
  }
  ROLLCALL_INLINE F32x16 Value(F32x16 x) {
    const F32x16 tanh = Tanh(Inner(x, Mul(x, x)));
    return Mul(Mul(Set(0.5F), x), Add(Set(1.0F), tanh));
  }
  ROLLCALL_INLINE ValueAndSlope Both(F32x16 x) {
    const F32x16 one = Set(1.0F);
    const F32x16 square = Mul(x, x);
    const F32x16 tanh = Tanh(Inner(x, square));
    const F32x16 half = Mul(Set(0.5F), x);
    const F32x16 inner_slope = Mul(Set(kRoot), Fma(square, Set(3.0F * kCubic), one));
    const F32x16 rise = Mul(Mul(half, Sub(one, Mul(tanh, tanh))), inner_slope);
    return {Mul(half, Add(one, tanh)), Fma(Set(0.5F), Add(one, tanh), rise)};
  }
};

struct Relu {
  ROLLCALL_INLINE F32x16 Value(F32x16 x) { return Max(Set(0.0F), x); }
  ROLLCALL_INLINE ValueAndSlope Both(F32x16 x) {
    const F32x16 zero = Set(0.0F);
    // 0 at zero, as torch has it.
    return {Max(zero, x), Sub(Set(1.0F), ZeroBelow(Set(1.0F), Sub(zero, x), zero))};
  }
};

template <typename Act, bool kGated>
static void ActivateAll(const ActivationArgs& args) {
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    const F32x16 value = Act::Value(LoadUpTo(args.gate + i, left));
    StoreUpTo(args.y + i, left, kGated ? Mul(value, LoadUpTo(args.up + i, left)) : value);
  }
}

template <typename Act, bool kGated>
static void ActivateAllGrad(const ActivationGradArgs& args) {
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    const ValueAndSlope both = Act::Both(LoadUpTo(args.gate + i, left));
    const F32x16 dy = LoadUpTo(args.dy + i, left);
    if (kGated) {
      const F32x16 up = LoadUpTo(args.up + i, left);
      StoreUpTo(args.dgate + i, left, Mul(Mul(dy, up), both.slope));
      StoreUpTo(args.dup + i, left, Mul(dy, both.value));
    } else {
      StoreUpTo(args.dgate + i, left, Mul(dy, both.slope));
    }
  }
}

template <typename Act>
static void ActivateWith(const ActivationArgs& args) {
  return args.up == nullptr ? ActivateAll<Act, false>(args) : ActivateAll<Act, true>(args);
}

template <typename Act>
static void ActivateGradWith(const ActivationGradArgs& args) {
  return args.up == nullptr ? ActivateAllGrad<Act, false>(args) : ActivateAllGrad<Act, true>(args);
}

static void Activate(const ActivationArgs& args) {
  switch (args.activation) {
    case Activation::kSilu:
      return ActivateWith<Silu>(args);
    case Activation::kGelu:
      return ActivateWith<Gelu>(args);
    case Activation::kGeluTanh:
      return ActivateWith<GeluTanh>(args);
    case Activation::kRelu:
      return ActivateWith<Relu>(args);
  }
}

static void ActivateGrad(const ActivationGradArgs& args) {
  switch (args.activation) {
    case Activation::kSilu:
      return ActivateGradWith<Silu>(args);
    case Activation::kGelu:
      return ActivateGradWith<Gelu>(args);
    case Activation::kGeluTanh:
      return ActivateGradWith<GeluTanh>(args);
    case Activation::kRelu:
      return ActivateGradWith<Relu>(args);
  }
}

static void SoftCap(const SoftCapArgs& args) {
  const F32x16 cap = Set(args.cap);
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    StoreUpTo(args.y + i, left, Mul(cap, Tanh(Div(LoadUpTo(args.x + i, left), cap))));
  }
}

static void SoftCapGrad(const SoftCapGradArgs& args) {
  const F32x16 cap = Set(args.cap);
  for (int64_t i = 0; i < args.size; i += kLanes) {
    const int64_t left = args.size - i;
    const F32x16 tanh = Div(LoadUpTo(args.y + i, left), cap);
    const F32x16 slope = Sub(Set(1.0F), Mul(tanh, tanh));
    StoreUpTo(args.dx + i, left, Mul(LoadUpTo(args.dy + i, left), slope));
  }
}

}  // namespace rollcall::ROLLCALL_ISA
