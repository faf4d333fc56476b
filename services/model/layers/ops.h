// The operations of the decoder on tensors. Each runs the kernels of services/model/kernels; where
// grad mode is on and an input requires a gradient it also records its backward, which never
// changes the forward's bits.
//
// All tensors are float32, contiguous, on the CPU. They throw on misuse (callers stand behind
// GuardExceptions). The threads of `compute` serve what records no gradient. Rounding to bfloat16
// has the gradient of the identity: the products of a backward take inputs and weights as they are.
//
// Letters: N tokens, E width of the
// input, O width of the output, V vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "services/model/config/activation.h"
#include "services/model/law/row_laws.h"
#include "services/model/layers/compute.h"
#include "services/model/tensor.h"

namespace rollcall::ops {

// Rows of table_VE times `scale`.  ids_N int32, in [0, V).
at::Tensor Embedding(const at::Tensor& table_VE, const at::Tensor& ids_N, float scale = 1.0F,
                     const Compute& compute = {});

struct NormOptions {
  double eps = 1e-5;
  float weight_offset = 0;  // added to the weight
};
// Over groups of weight.numel() neighbours: whole rows, or each head by itself.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, const NormOptions& options,
                   const Compute& compute = {});
at::Tensor LayerNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, const at::Tensor& bias_E,
                     double eps, const Compute& compute = {});

// x_NE times w_OE transposed, plus bias_O unless undefined. `packed` is w_OE packed in the
// precision of `compute`, or undefined.
at::Tensor Linear(const at::Tensor& x_NE, const at::Tensor& w_OE, const at::Tensor& bias_O,
                  const at::Tensor& packed, const Compute& compute = {});

// Several products of one input, cheaper than one by one.
struct Projection {
  const at::Tensor& w_OE;
  const at::Tensor& bias_O;
  const at::Tensor& packed;
};
std::vector<at::Tensor> Linears(const at::Tensor& x_NE, std::span<const Projection> projections,
                                const Compute& compute = {});

// Turns x_NO = [N, heads * head_dim] in place. positions_N int32; table_PR from RotaryTable.
at::Tensor Rotary(at::Tensor x_NO, int64_t head_dim, const at::Tensor& table_PR,
                  const at::Tensor& positions_N, const Compute& compute = {});

// act(gate) * up, or act(gate) where up is undefined.
at::Tensor Activate(Activation activation, const at::Tensor& gate, const at::Tensor& up,
                    const Compute& compute = {});

// cap * tanh(x / cap); may reuse x's memory when no gradient is recorded.
at::Tensor SoftCap(at::Tensor x, double cap, const Compute& compute = {});

// x + y; may reuse x's memory when no gradient is recorded.
at::Tensor Residual(at::Tensor x, const at::Tensor& y, const Compute& compute = {});

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  double scale = 1.0;
  double softcap = 0;                         // 0: none
  int64_t window = 0;                         // keys that a query sees, its own included; 0: all
  Precision precision = Precision::kFloat32;  // kBFloat16 rounds keys and values
};

// To the nearest bfloat16, ties to even.
at::Tensor RoundToBFloat16(const at::Tensor& x);

// Causal attention inside each of the packed sequences.  starts int32 [S+1], from 0 to N.
at::Tensor PackedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& starts, const AttentionShape& shape);

// log softmax(cap(hidden * w^T) / temperature)[target] and the entropy, both [N], under the law of
// each row, in chunks of rows whose logits take at most `chunk_bytes`; backward computes the logits
// again.  targets_N int32.
struct TokenLogprobsOptions {
  double temperature = 1.0;
  double softcap = 0;                   // of the logits; 0: none
  std::shared_ptr<const RowLaws> laws;  // null: nothing is edited, everything is kept
  int64_t chunk_bytes = int64_t{16} << 20;
  Precision precision = Precision::kFloat32;  // of the product
};
std::pair<at::Tensor, at::Tensor> TokenLogprobs(const at::Tensor& hidden_NE, const at::Tensor& w_VE,
                                                const at::Tensor& packed,
                                                const at::Tensor& targets_N,
                                                const TokenLogprobsOptions& options);

}  // namespace rollcall::ops
