// The CPU kernels of one instruction set. No standard C++ headers: see simd.h.
#pragma once

#include <cstdint>

#include "services/model/kernels/activation.h"
#include "services/model/kernels/attention.h"
#include "services/model/kernels/bfloat16.h"
#include "services/model/kernels/layer_norm.h"
#include "services/model/kernels/linear.h"
#include "services/model/kernels/log_softmax.h"
#include "services/model/kernels/rms_norm.h"
#include "services/model/kernels/rotary.h"
#include "services/model/kernels/soft_cap.h"

namespace rollcall {

// All functions are pure and thread-safe; what they write is the caller's.
struct CpuKernels {
  const char* name;
  void (*pack_linear)(const float* w, int64_t num_outputs, int64_t depth, float* packed);
  void (*linear)(const LinearArgs& args);
  void (*pack_linear_bf16)(const float* w, int64_t num_outputs, int64_t depth, Bf16Pair* packed);
  void (*linear_bf16)(const Bf16LinearArgs& args);
  // Rows of floats as rows of NumBf16Pairs(width) pairs of neighbours.
  void (*round_rows)(const float* x, int64_t num_rows, int64_t width, Bf16Pair* pairs);
  // To the nearest bfloat16, as floats; y may be x.
  void (*round_values)(const float* x, int64_t size, float* y);
  void (*pack_linear_int8)(const float* w, int64_t num_outputs, int64_t depth, Int8Quad* packed);
  void (*linear_int8)(const Int8LinearArgs& args);
  // Rows of floats as rows of NumInt8Quads(width) quads, each with a scale.
  void (*quantize_rows)(const float* x, int64_t num_rows, int64_t width, Int8Quad* quads,
                        float* scales);
  void (*rms_norm)(const RmsNormArgs& args);
  void (*rms_norm_grad)(const RmsNormGradArgs& args);
  void (*layer_norm)(const LayerNormArgs& args);
  void (*layer_norm_grad)(const LayerNormGradArgs& args);
  void (*rotary)(const RotaryArgs& args);
  void (*activate)(const ActivationArgs& args);
  void (*activate_grad)(const ActivationGradArgs& args);
  void (*soft_cap)(const SoftCapArgs& args);
  void (*soft_cap_grad)(const SoftCapGradArgs& args);
  void (*add)(const float* a, const float* b, int64_t size, float* y);  // y may be a or b
  // dst[d * dst_stride + j] = src[j * src_stride + d] for d < rows, j < columns.
  void (*transpose)(const float* src, int64_t src_stride, int64_t rows, int64_t columns, float* dst,
                    int64_t dst_stride);
  void (*attention)(const AttentionArgs& args);
  void (*attention_bf16)(const AttentionArgs& args);
  // NumBf16Pairs(size) pairs of a value for the cache; see attention.h.
  void (*pair_halves)(const float* x, int64_t size, Bf16Pair* pairs);
  void (*attention_grad)(const AttentionGradArgs& args);
  LogSoftmaxStats (*log_softmax_stats)(const float* logits, int64_t width,
                                       float inverse_temperature);
  // log p of `count` elements from `first` on.
  void (*log_softmax_write)(const float* logits, int64_t count, float inverse_temperature,
                            const LogSoftmaxStats& stats, float* out);
  void (*log_softmax_grad)(const LogSoftmaxGradArgs& args);
  // The same statistics, bit for bit, with one sum for each block of the row.
  MassSums (*mass_sums)(const float* logits, int64_t width, float inverse_temperature, float* sums);
  // exp(logits * inverse_temperature - max) of `count` logits: the masses that mass_sums added up.
  void (*masses)(const float* logits, int64_t count, float inverse_temperature, float max,
                 float* out);
  // Of the logits that are at least `bound`: how many, and the sum of their masses.
  MassAtLeast (*mass_at_least)(const float* logits, const float* masses, int64_t width,
                               float bound);
  // Indices of the values that are at least `bound`, ascending, into out[width]; how many.
  int64_t (*select_at_least)(const float* values, int64_t width, float bound, int32_t* out);
};

}  // namespace rollcall
