// The gradient of attention for one instruction set; see kernels/attention.h.
#pragma once

#include "services/model/kernels/attention.h"
#include "services/model/kernels/cpu/attention_body.h"
#include "services/model/kernels/cpu/gemm_body.h"

namespace rollcall::ROLLCALL_ISA {

// Queries of one gradient tile.
constexpr int64_t kGradRows = kAttentionGradRows;

// What turns raw scores into those of the softmax.
struct ScoreLaw {
  float scale;
  float softcap;
};

// p[j] = exp(t[j] - max) * inverse_sum for keys first .. count-1, where t is the scaled and capped
// score, and dp[j] becomes the gradient of the raw score: p[j] * (dp[j] - delta) times the slope of
// t. Zeros before `first`, from `begin` on, and from `count` to `padded`.
template <bool kCapped>
static void ScoreGradRow(float* p, float* dp, int64_t begin, int64_t first, int64_t count,
                         int64_t padded, ScoreLaw law, RowStats stats, float delta) {
  const F32x16 scale_all = Set(law.scale);
  const F32x16 cap = Set(law.softcap);
  const F32x16 max = Set(stats.max);
  const F32x16 inverse = Set(stats.inverse_sum);
  const F32x16 delta_all = Set(delta);
  const float lowest = -__builtin_inff();
  if (!kCapped) {
    for (int64_t j = begin; j < first; ++j) p[j] = lowest;
  }
  int64_t j = begin;
  for (; j < count; j += kLanes) {
    const int64_t left = count - j;
    F32x16 s = Load(p + j);
    F32x16 d = Load(dp + j);
    if (left < kLanes) {
      s = LoadFirst(p + j, left, kCapped ? 0.0F : lowest);
      d = LoadFirst(dp + j, left);
    }
    F32x16 slope = scale_all;
    F32x16 t = Mul(s, scale_all);
    if (kCapped) {
      const F32x16 tanh = Tanh(Div(t, cap));
      t = Mul(cap, tanh);
      slope = Mul(Sub(Set(1.0F), Mul(tanh, tanh)), scale_all);
    }
    const F32x16 weight = Mul(Exp(Sub(t, max)), inverse);
    Store(p + j, weight);
    Store(dp + j, Mul(Mul(weight, Sub(d, delta_all)), slope));
  }
  if (kCapped) {
    // Outside the row's keys the cap gave a finite score.
    for (int64_t i = begin; i < first; ++i) p[i] = dp[i] = 0.0F;
    for (int64_t i = count; i < j; ++i) p[i] = dp[i] = 0.0F;
  }
  for (; j < padded; j += kLanes) {
    Store(p + j, Set(0.0F));
    Store(dp + j, Set(0.0F));
  }
}

static float Dot(const float* a, const float* b, int64_t size) {
  F32x16 sum = Set(0.0F);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) sum = Fma(Load(a + i), Load(b + i), sum);
  if (i < size) sum = Fma(LoadFirst(a + i, size - i), LoadFirst(b + i, size - i), sum);
  return ReduceAdd(sum);
}

static void AttentionGrad(const AttentionGradArgs& args) {
  const int64_t padded_tokens = RoundUpToLanes(args.num_tokens);
  float* k_t = args.scratch;  // [D][T]
  float* v_t = k_t + args.head_dim * padded_tokens;
  float* p = v_t + args.head_dim * padded_tokens;  // [kGradRows][T]
  float* ds = p + kGradRows * padded_tokens;
  Transpose(args.k, args.kv_stride, args.head_dim, args.num_tokens, k_t, padded_tokens);
  Transpose(args.v, args.kv_stride, args.head_dim, args.num_tokens, v_t, padded_tokens);
  for (int64_t d = 0; d < args.head_dim; ++d) {
    for (int64_t j = args.num_tokens; j < padded_tokens; ++j) {
      k_t[d * padded_tokens + j] = 0.0F;
      v_t[d * padded_tokens + j] = 0.0F;
    }
  }
  for (int64_t head = 0; head < args.group; ++head) {
    const int64_t column = head * args.head_dim;
    for (int64_t t = 0; t < args.num_tokens; t += kGradRows) {
      const int64_t left = args.num_tokens - t;
      const int64_t rows = left < kGradRows ? left : kGradRows;
      const int64_t keys = t + rows;
      const int64_t padded = RoundUpToLanes(keys);
      // The first key that any row of the tile sees.
      const int64_t first_key = args.window > 0 && t + 1 > args.window ? t + 1 - args.window : 0;
      const int64_t begin = first_key / kLanes * kLanes;
      const ptrdiff_t at = t * args.q_stride + column;
      Gemm<Order::kRows>(
          {args.q + at, args.q_stride, k_t + begin, padded_tokens, p + begin, padded_tokens}, rows,
          padded - begin, args.head_dim, false);
      Gemm<Order::kRows>(
          {args.dout + at, args.q_stride, v_t + begin, padded_tokens, ds + begin, padded_tokens},
          rows, padded - begin, args.head_dim, false);
      for (int64_t r = 0; r < rows; ++r) {
        const float* stats = args.stats + (t + r) * args.stats_stride + 2 * head;
        const float delta = Dot(args.dout + at + r * args.q_stride,
                                args.out + at + r * args.q_stride, args.head_dim);
        const int64_t count = t + r + 1;
        const int64_t first = args.window > 0 && count > args.window ? count - args.window : 0;
        const auto row_grad = args.softcap > 0 ? ScoreGradRow<true> : ScoreGradRow<false>;
        row_grad(p + r * padded_tokens, ds + r * padded_tokens, begin, first, count, padded,
                 {args.scale, args.softcap}, {stats[0], stats[1]}, delta);
      }
      const ptrdiff_t kv_at = begin * args.kv_stride;
      Gemm<Order::kRows>(
          {ds + begin, padded_tokens, args.k + kv_at, args.kv_stride, args.dq + at, args.q_stride},
          rows, args.head_dim, keys - begin, false);
      Gemm<Order::kColumns>(
          {ds + begin, padded_tokens, args.q + at, args.q_stride, args.dk + kv_at, args.kv_stride},
          keys - begin, args.head_dim, rows, true);
      Gemm<Order::kColumns>({p + begin, padded_tokens, args.dout + at, args.q_stride,
                             args.dv + kv_at, args.kv_stride},
                            keys - begin, args.head_dim, rows, true);
    }
  }
}

}  // namespace rollcall::ROLLCALL_ISA
