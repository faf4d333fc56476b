// The forward computations behind ops.h, without gradients: plain calls of the kernels on fresh
// tensors, on the threads of `compute`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/model/layers/compute.h"
#include "services/model/layers/ops.h"
#include "services/model/tensor.h"

namespace rollcall::forward {

// A product costs less than an element that Compute counts.
constexpr int64_t kProductsPerElement = 4;

// Uninitialised float32 memory, without the dispatcher.
at::Tensor Empty(at::IntArrayRef shape);

// Rows of K numbers that products take.
struct ProductInput {
  const float* x = nullptr;  // [N, K]
  int64_t num_rows = 0;
  int64_t depth = 0;
};
// y [N, O] = x * w^T + bias, in the precision of `compute`.
struct ProductOutput {
  int64_t num_outputs = 0;
  const float* w = nullptr;  // [O, K]
  at::Tensor packed;         // w as Pack made it, in this precision or as int8; or undefined
  const float* bias = nullptr;
  float* y = nullptr;
};
// All `outputs` are packed alike.
void Products(const ProductInput& input, std::span<const ProductOutput> outputs,
              const Compute& compute = {});

// w_OK in the panels of kernels/linear.h: float32, int32 (pairs of bfloat16) or int8.
at::Tensor Pack(const at::Tensor& w_OK, Precision precision, Quantization quantization);

// Rows of floats as rows of bfloat16 pairs, int32 [N, pairs]; see kernels/bfloat16.h.
at::Tensor PairRows(const float* x, int64_t num_rows, int64_t width, const Compute& compute);
// To the nearest bfloat16.
at::Tensor RoundToBFloat16(const at::Tensor& x);

at::Tensor Embedding(const at::Tensor& table_VE, const at::Tensor& ids_N, float scale,
                     const Compute& compute = {});
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, const ops::NormOptions& options,
                   const Compute& compute = {});
at::Tensor LayerNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, const at::Tensor& bias_E,
                     double eps, const Compute& compute = {});
at::Tensor Linear(const at::Tensor& x_NE, const at::Tensor& w_OE, const at::Tensor& bias_O,
                  const at::Tensor& packed, const Compute& compute = {});
std::vector<at::Tensor> Linears(const at::Tensor& x_NE,
                                std::span<const ops::Projection> projections,
                                const Compute& compute = {});
void RotaryInPlace(const at::Tensor& x_NO, int64_t head_dim, const at::Tensor& table_PR,
                   const at::Tensor& positions_N, float direction, const Compute& compute = {});
at::Tensor Activate(Activation activation, const at::Tensor& gate, const at::Tensor& up,
                    const Compute& compute = {});
void SoftCapInPlace(const at::Tensor& x, double cap, const Compute& compute = {});
// x += y
void AddInPlace(const at::Tensor& x, const at::Tensor& y, const Compute& compute = {});

// With `stats` [N, 2H] defined, what the gradient needs is written to it.
at::Tensor PackedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& starts, const ops::AttentionShape& shape,
                           const at::Tensor& stats);

// Rows of logits that fit into chunk_bytes, at least one.
int64_t ChunkRows(int64_t vocab_size, int64_t chunk_bytes);

// stats [N, 3] (maximum, log of sum, entropy) is undefined where nobody needs it.
struct TokenLogprobs {
  at::Tensor logprobs_N;
  at::Tensor entropy_N;
};
TokenLogprobs ComputeTokenLogprobs(const at::Tensor& hidden_NE, const at::Tensor& w_VE,
                                   const at::Tensor& packed, const at::Tensor& targets_N,
                                   const ops::TokenLogprobsOptions& options,
                                   const at::Tensor& stats);

}  // namespace rollcall::forward
