// Puts the kernels of one instruction set into a table.
#pragma once

#include "services/model/kernels/cpu/activation_body.h"
#include "services/model/kernels/cpu/attention_body.h"
#include "services/model/kernels/cpu/attention_grad_body.h"
#include "services/model/kernels/cpu/bfloat16_body.h"
#include "services/model/kernels/cpu/kernel_table.h"
#include "services/model/kernels/cpu/linear_bf16_body.h"
#include "services/model/kernels/cpu/linear_body.h"
#include "services/model/kernels/cpu/linear_int8_body.h"
#include "services/model/kernels/cpu/norm_body.h"
#include "services/model/kernels/cpu/rows_body.h"
#include "services/model/kernels/cpu/sampling_body.h"

namespace rollcall::ROLLCALL_ISA {

static void TransposeMatrix(const float* src, int64_t src_stride, int64_t rows, int64_t columns,
                            float* dst, int64_t dst_stride) {
  Transpose(src, src_stride, rows, columns, dst, dst_stride);
}

#define ROLLCALL_QUOTE_INNER(text) #text
#define ROLLCALL_QUOTE(text) ROLLCALL_QUOTE_INNER(text)

constexpr CpuKernels kTable = {.name = ROLLCALL_QUOTE(ROLLCALL_ISA),
                               .pack_linear = PackLinear,
                               .linear = Linear,
                               .pack_linear_bf16 = PackLinearBf16,
                               .linear_bf16 = LinearBf16,
                               .round_rows = RoundRows,
                               .round_values = RoundValues,
                               .pack_linear_int8 = PackLinearInt8,
                               .linear_int8 = LinearInt8,
                               .quantize_rows = QuantizeRows,
                               .rms_norm = RmsNorm,
                               .rms_norm_grad = RmsNormGrad,
                               .layer_norm = LayerNorm,
                               .layer_norm_grad = LayerNormGrad,
                               .rotary = Rotary,
                               .activate = Activate,
                               .activate_grad = ActivateGrad,
                               .soft_cap = SoftCap,
                               .soft_cap_grad = SoftCapGrad,
                               .add = AddRows,
                               .transpose = TransposeMatrix,
                               .attention = Attention,
                               .attention_bf16 = AttentionBf16,
                               .pair_halves = PairHalves,
                               .attention_grad = AttentionGrad,
                               .log_softmax_stats = LogSoftmaxRow,
                               .log_softmax_write = LogSoftmaxWrite,
                               .log_softmax_grad = LogSoftmaxGrad,
                               .mass_sums = SumMasses,
                               .masses = WriteMasses,
                               .mass_at_least = MassOfAtLeast,
                               .select_at_least = SelectAtLeast};

}  // namespace rollcall::ROLLCALL_ISA
