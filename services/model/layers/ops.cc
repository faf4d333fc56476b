#include "services/model/layers/ops.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/forward.h"
#include "services/model/layers/law_row.h"

// The only file that sees custom_function.h, which takes ten seconds to compile.
namespace rollcall::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

const float* Data(const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); }
float* Mutable(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
const int32_t* Ids(const at::Tensor& tensor) { return tensor.const_data_ptr<int32_t>(); }

template <typename... Tensors>
bool Records(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (tensors.requires_grad() || ...);
}

// A custom function takes no undefined tensor.
std::optional<at::Tensor> Optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

class EmbeddingFunction : public Function<EmbeddingFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& table_VE,
                            const at::Tensor& ids_N, double scale) {
    ctx->save_for_backward({ids_N});
    ctx->saved_data["rows"] = table_VE.size(0);
    ctx->saved_data["scale"] = scale;
    return forward::Embedding(table_VE, ids_N, static_cast<float>(scale));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor ids_N = ctx->get_saved_variables()[0];
    const at::Tensor dy_NE = grads[0].contiguous();
    const int64_t width = dy_NE.size(1);
    at::Tensor dtable_VE = at::zeros({ctx->saved_data["rows"].toInt(), width}, at::kFloat);
    for (int64_t n = 0; n < ids_N.size(0); ++n) {
      float* row = Mutable(dtable_VE) + Ids(ids_N)[n] * width;
      BestCpuKernels().add(row, Data(dy_NE) + n * width, width, row);
    }
    const double scale = ctx->saved_data["scale"].toDouble();
    if (scale != 1.0) dtable_VE.mul_(scale);
    return {dtable_VE, Variable(), Variable()};
  }
};

class RmsNormFunction : public Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const NormOptions& options) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["eps"] = options.eps;
    ctx->saved_data["offset"] = static_cast<double>(options.weight_offset);
    return forward::RmsNorm(x, weight, options);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dy = grads[0].contiguous();
    const int64_t width = saved[1].numel();
    at::Tensor dx = forward::Empty(saved[0].sizes());
    at::Tensor dweight = at::zeros_like(saved[1]);
    BestCpuKernels().rms_norm_grad(
        {.x = Data(saved[0]),
         .w = Data(saved[1]),
         .dy = Data(dy),
         .num_rows = dy.numel() / width,
         .width = width,
         .eps = ctx->saved_data["eps"].toDouble(),
         .weight_offset = static_cast<float>(ctx->saved_data["offset"].toDouble()),
         .dx = Mutable(dx),
         .dw = Mutable(dweight)});
    return {dx, dweight, Variable()};
  }
};

class LayerNormFunction : public Function<LayerNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_NE,
                            const at::Tensor& weight_E, const at::Tensor& bias_E, double eps) {
    ctx->save_for_backward({x_NE, weight_E});
    ctx->saved_data["eps"] = eps;
    return forward::LayerNorm(x_NE, weight_E, bias_E, eps);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dy_NE = grads[0].contiguous();
    at::Tensor dx_NE = forward::Empty(saved[0].sizes());
    at::Tensor dweight_E = at::zeros_like(saved[1]);
    at::Tensor dbias_E = at::zeros_like(saved[1]);
    BestCpuKernels().layer_norm_grad({.x = Data(saved[0]),
                                      .w = Data(saved[1]),
                                      .dy = Data(dy_NE),
                                      .num_rows = dy_NE.size(0),
                                      .width = dy_NE.size(1),
                                      .eps = ctx->saved_data["eps"].toDouble(),
                                      .dx = Mutable(dx_NE),
                                      .dw = Mutable(dweight_E),
                                      .db = Mutable(dbias_E)});
    return {dx_NE, dweight_E, dbias_E, Variable()};
  }
};

class LinearFunction : public Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_NE, const at::Tensor& w_OE,
                            const std::optional<at::Tensor>& bias_O,
                            const std::optional<at::Tensor>& packed, Precision precision) {
    ctx->save_for_backward({x_NE, w_OE});
    ctx->saved_data["has_bias"] = bias_O.has_value();
    return forward::Linear(x_NE, w_OE, bias_O.value_or(at::Tensor()), packed.value_or(at::Tensor()),
                           {.precision = precision});
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dy_NO = grads[0].contiguous();
    at::Tensor dx_NE;
    at::Tensor dw_OE;
    at::Tensor dbias_O;
    if (ctx->needs_input_grad(0)) dx_NE = at::mm(dy_NO, saved[1]);
    if (ctx->needs_input_grad(1)) dw_OE = at::mm(dy_NO.t(), saved[0]);
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2)) {
      const int64_t width = dy_NO.size(1);
      dbias_O = at::zeros({width}, at::kFloat);
      for (int64_t n = 0; n < dy_NO.size(0); ++n) {
        BestCpuKernels().add(Data(dbias_O), Data(dy_NO) + n * width, width, Mutable(dbias_O));
      }
    }
    return {dx_NE, dw_OE, dbias_O, Variable(), Variable()};
  }
};

class RotaryFunction : public Function<RotaryFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_NO, int64_t head_dim,
                            const at::Tensor& table_PR, const at::Tensor& positions_N) {
    ctx->save_for_backward({table_PR, positions_N});
    ctx->saved_data["head_dim"] = head_dim;
    ctx->mark_dirty({x_NO});
    forward::RotaryInPlace(x_NO, head_dim, table_PR, positions_N, 1.0F);
    return x_NO;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dx_NO = forward::Empty(grads[0].sizes());
    dx_NO.copy_(grads[0]);
    forward::RotaryInPlace(dx_NO, ctx->saved_data["head_dim"].toInt(), saved[0], saved[1], -1.0F);
    return {dx_NO, Variable(), Variable(), Variable()};
  }
};

class ActivateFunction : public Function<ActivateFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, Activation activation, const at::Tensor& gate,
                            const std::optional<at::Tensor>& up) {
    ctx->saved_data["activation"] = static_cast<int64_t>(activation);
    if (up.has_value()) {
      ctx->save_for_backward({gate, *up});
    } else {
      ctx->save_for_backward({gate});
    }
    return forward::Activate(activation, gate, up.value_or(at::Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const bool is_gated = saved.size() == 2;
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dgate = forward::Empty(dy.sizes());
    at::Tensor dup;
    if (is_gated) dup = forward::Empty(dy.sizes());
    BestCpuKernels().activate_grad(
        {.activation = static_cast<Activation>(ctx->saved_data["activation"].toInt()),
         .gate = Data(saved[0]),
         .up = is_gated ? Data(saved[1]) : nullptr,
         .dy = Data(dy),
         .size = dy.numel(),
         .dgate = Mutable(dgate),
         .dup = is_gated ? Mutable(dup) : nullptr});
    return {Variable(), dgate, dup};
  }
};

class SoftCapFunction : public Function<SoftCapFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, double cap) {
    at::Tensor y = forward::Empty(x.sizes());
    y.copy_(x);
    forward::SoftCapInPlace(y, cap);
    ctx->save_for_backward({y});
    ctx->saved_data["cap"] = cap;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor y = ctx->get_saved_variables()[0];
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx = forward::Empty(dy.sizes());
    BestCpuKernels().soft_cap_grad({.y = Data(y),
                                    .dy = Data(dy),
                                    .size = dy.numel(),
                                    .cap = static_cast<float>(ctx->saved_data["cap"].toDouble()),
                                    .dx = Mutable(dx)});
    return {dx, Variable()};
  }
};

class RoundFunction : public Function<RoundFunction> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& x) {
    return forward::RoundToBFloat16(x);
  }
  static variable_list backward(AutogradContext*, const variable_list& grads) { return {grads[0]}; }
};

class PackedAttentionFunction : public Function<PackedAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& starts,
                            const AttentionShape& shape) {
    const at::Tensor stats = forward::Empty({q.size(0), 2 * shape.num_heads});
    const at::Tensor out = forward::PackedAttention(q, k, v, starts, shape, stats);
    ctx->save_for_backward({q, k, v, out, stats, starts});
    ctx->saved_data["heads"] = shape.num_heads;
    ctx->saved_data["kv_heads"] = shape.num_kv_heads;
    ctx->saved_data["scale"] = shape.scale;
    ctx->saved_data["softcap"] = shape.softcap;
    ctx->saved_data["window"] = shape.window;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& q = saved[0];
    const at::Tensor& k = saved[1];
    const at::Tensor& v = saved[2];
    const at::Tensor& starts = saved[5];
    const int64_t num_heads = ctx->saved_data["heads"].toInt();
    const int64_t num_kv_heads = ctx->saved_data["kv_heads"].toInt();
    const int64_t head_dim = q.size(1) / num_heads;
    const int64_t group = num_heads / num_kv_heads;
    const at::Tensor dout = grads[0].contiguous();
    const at::Tensor dq = forward::Empty(q.sizes());
    const at::Tensor dk = at::zeros_like(k);
    const at::Tensor dv = at::zeros_like(v);

    const int32_t* first = Ids(starts);
    int64_t longest = 0;
    for (int64_t s = 0; s + 1 < starts.size(0); ++s) {
      longest = std::max<int64_t>(longest, first[s + 1] - first[s]);
    }
    std::vector<float> scratch(static_cast<size_t>(AttentionGradScratch(longest, head_dim)));
    for (int64_t s = 0; s + 1 < starts.size(0); ++s) {
      if (first[s + 1] == first[s]) continue;
      for (int64_t head = 0; head < num_kv_heads; ++head) {
        const int64_t q_at = first[s] * q.size(1) + head * group * head_dim;
        const int64_t kv_at = first[s] * k.size(1) + head * head_dim;
        BestCpuKernels().attention_grad(
            {.q = Data(q) + q_at,
             .out = Data(saved[3]) + q_at,
             .dout = Data(dout) + q_at,
             .dq = Mutable(dq) + q_at,
             .q_stride = q.size(1),
             .k = Data(k) + kv_at,
             .v = Data(v) + kv_at,
             .dk = Mutable(dk) + kv_at,
             .dv = Mutable(dv) + kv_at,
             .kv_stride = k.size(1),
             .stats = Data(saved[4]) + int64_t{first[s]} * 2 * num_heads + 2 * head * group,
             .stats_stride = 2 * num_heads,
             .num_tokens = first[s + 1] - first[s],
             .group = group,
             .head_dim = head_dim,
             .scale = static_cast<float>(ctx->saved_data["scale"].toDouble()),
             .softcap = static_cast<float>(ctx->saved_data["softcap"].toDouble()),
             .window = ctx->saved_data["window"].toInt(),
             .scratch = scratch.data()});
      }
    }
    return {dq, dk, dv, Variable(), Variable()};
  }
};

// Carries the laws from forward to backward.
struct LawsHolder : torch::CustomClassHolder {
  explicit LawsHolder(std::shared_ptr<const RowLaws> held) : laws(std::move(held)) {}
  std::shared_ptr<const RowLaws> laws;
};

class TokenLogprobsFunction : public Function<TokenLogprobsFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden_NE,
                               const at::Tensor& w_VE, const std::optional<at::Tensor>& packed,
                               const at::Tensor& targets_N, const TokenLogprobsOptions& options) {
    const at::Tensor stats = forward::Empty({hidden_NE.size(0), 3});
    const forward::TokenLogprobs result = forward::ComputeTokenLogprobs(
        hidden_NE, w_VE, packed.value_or(at::Tensor()), targets_N, options, stats);
    ctx->save_for_backward({hidden_NE, w_VE, targets_N, stats});
    ctx->saved_data["temperature"] = options.temperature;
    ctx->saved_data["softcap"] = options.softcap;
    ctx->saved_data["chunk_bytes"] = options.chunk_bytes;
    ctx->saved_data["precision"] = static_cast<int64_t>(options.precision);
    ctx->saved_data["laws"] =
        c10::IValue::make_capsule(c10::make_intrusive<LawsHolder>(options.laws));
    return {result.logprobs_N, result.entropy_N};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const CpuKernels& kernels = BestCpuKernels();
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& hidden_NE = saved[0];
    const at::Tensor& w_VE = saved[1];
    const float* stats = Data(saved[3]);
    const at::Tensor dlogprobs_N = grads[0].contiguous();
    const at::Tensor dentropy_N = grads[1].contiguous();
    const int64_t num_rows = hidden_NE.size(0);
    const int64_t width = hidden_NE.size(1);
    const int64_t vocab_size = w_VE.size(0);
    const auto inverse_temperature =
        static_cast<float>(1.0 / ctx->saved_data["temperature"].toDouble());
    const bool needs_hidden = ctx->needs_input_grad(0);
    const bool needs_weight = ctx->needs_input_grad(1);
    at::Tensor dhidden_NE = at::zeros_like(hidden_NE);
    at::Tensor dw_VE;
    if (needs_weight) dw_VE = at::zeros_like(w_VE);
    const int64_t chunk =
        std::min(num_rows, forward::ChunkRows(vocab_size, ctx->saved_data["chunk_bytes"].toInt()));
    const at::Tensor logits_CV = forward::Empty({chunk, vocab_size});
    const auto precision = static_cast<Precision>(ctx->saved_data["precision"].toInt());
    const double softcap = ctx->saved_data["softcap"].toDouble();
    at::Tensor capped_V;  // a row of logits, which its gradient overwrites
    if (softcap > 0) capped_V = forward::Empty({vocab_size});
    const auto holder = ctx->saved_data["laws"].toCapsule();
    LawRow law_row(static_cast<const LawsHolder&>(*holder).laws.get(), vocab_size);
    for (int64_t n = 0; n < num_rows; n += chunk) {
      const int64_t rows = std::min(chunk, num_rows - n);
      const forward::ProductOutput output{
          .num_outputs = vocab_size, .w = Data(w_VE), .packed = {}, .y = Mutable(logits_CV)};
      forward::Products({.x = Data(hidden_NE) + n * width, .num_rows = rows, .depth = width},
                        std::span(&output, 1), {.precision = precision});
      if (softcap > 0) forward::SoftCapInPlace(logits_CV, softcap);
      for (int64_t r = 0; r < rows; ++r) {
        float* row = Mutable(logits_CV) + r * vocab_size;
        const float* row_stats = stats + 3 * (n + r);
        if (softcap > 0) std::copy_n(row, vocab_size, Mutable(capped_V));
        const std::span<float> row_V(row, static_cast<size_t>(vocab_size));
        const LawRow::Kept kept = law_row.Apply(n + r, Ids(saved[2])[n + r], row_V);
        kernels.log_softmax_grad({.logits = kept.logits,
                                  .width = kept.width,
                                  .inverse_temperature = inverse_temperature,
                                  .stats = {row_stats[0], row_stats[1], row_stats[2]},
                                  .target = kept.target,
                                  .dlogprob = Data(dlogprobs_N)[n + r],
                                  .dentropy = Data(dentropy_N)[n + r],
                                  .dlogits = kept.logits});
        law_row.Backward(kept, row_V);
        if (softcap > 0) {
          kernels.soft_cap_grad({.y = Data(capped_V),
                                 .dy = row,
                                 .size = vocab_size,
                                 .cap = static_cast<float>(softcap),
                                 .dx = row});
        }
      }
      const at::Tensor dlogits = logits_CV.narrow(0, 0, rows);
      if (needs_hidden) {
        at::Tensor part = dhidden_NE.narrow(0, n, rows);
        at::mm_out(part, dlogits, w_VE);
      }
      if (needs_weight) dw_VE.addmm_(dlogits.t(), hidden_NE.narrow(0, n, rows));
    }
    return {dhidden_NE, dw_VE, Variable(), Variable(), Variable()};
  }
};

}  // namespace

at::Tensor Embedding(const at::Tensor& table_VE, const at::Tensor& ids_N, float scale,
                     const Compute& compute) {
  if (Records(table_VE)) return EmbeddingFunction::apply(table_VE, ids_N, double{scale});
  return forward::Embedding(table_VE, ids_N, scale, compute);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, const NormOptions& options,
                   const Compute& compute) {
  if (Records(x, weight)) return RmsNormFunction::apply(x, weight, options);
  return forward::RmsNorm(x, weight, options, compute);
}

at::Tensor LayerNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, const at::Tensor& bias_E,
                     double eps, const Compute& compute) {
  if (Records(x_NE, weight_E, bias_E)) {
    return LayerNormFunction::apply(x_NE, weight_E, bias_E, eps);
  }
  return forward::LayerNorm(x_NE, weight_E, bias_E, eps, compute);
}

at::Tensor Linear(const at::Tensor& x_NE, const at::Tensor& w_OE, const at::Tensor& bias_O,
                  const at::Tensor& packed, const Compute& compute) {
  if (Records(x_NE, w_OE)) {
    return LinearFunction::apply(x_NE, w_OE, Optional(bias_O), Optional(packed), compute.precision);
  }
  return forward::Linear(x_NE, w_OE, bias_O, packed, compute);
}

std::vector<at::Tensor> Linears(const at::Tensor& x_NE, std::span<const Projection> projections,
                                const Compute& compute) {
  const bool records = std::any_of(projections.begin(), projections.end(),
                                   [&](const auto& p) { return Records(x_NE, p.w_OE); });
  if (!records) return forward::Linears(x_NE, projections, compute);
  std::vector<at::Tensor> results;
  results.reserve(projections.size());
  for (const Projection& p : projections) {
    results.push_back(Linear(x_NE, p.w_OE, p.bias_O, p.packed, compute));
  }
  return results;
}

at::Tensor Rotary(at::Tensor x_NO, int64_t head_dim, const at::Tensor& table_PR,
                  const at::Tensor& positions_N, const Compute& compute) {
  if (Records(x_NO)) return RotaryFunction::apply(x_NO, head_dim, table_PR, positions_N);
  forward::RotaryInPlace(x_NO, head_dim, table_PR, positions_N, 1.0F, compute);
  return x_NO;
}

at::Tensor Activate(Activation activation, const at::Tensor& gate, const at::Tensor& up,
                    const Compute& compute) {
  if (Records(gate) || (up.defined() && Records(up))) {
    return ActivateFunction::apply(activation, gate, Optional(up));
  }
  return forward::Activate(activation, gate, up, compute);
}

at::Tensor SoftCap(at::Tensor x, double cap, const Compute& compute) {
  if (Records(x)) return SoftCapFunction::apply(x, cap);
  forward::SoftCapInPlace(x, cap, compute);
  return x;
}

at::Tensor Residual(at::Tensor x, const at::Tensor& y, const Compute& compute) {
  if (Records(x, y)) return at::add(x, y);
  forward::AddInPlace(x, y, compute);
  return x;
}

at::Tensor RoundToBFloat16(const at::Tensor& x) {
  if (Records(x)) return RoundFunction::apply(x);
  return forward::RoundToBFloat16(x);
}

at::Tensor PackedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& starts, const AttentionShape& shape) {
  if (shape.precision == Precision::kBFloat16) {
    AttentionShape rounded = shape;
    rounded.precision = Precision::kFloat32;
    return PackedAttention(q, RoundToBFloat16(k), RoundToBFloat16(v), starts, rounded);
  }
  if (Records(q, k, v)) return PackedAttentionFunction::apply(q, k, v, starts, shape);
  return forward::PackedAttention(q, k, v, starts, shape, at::Tensor());
}

std::pair<at::Tensor, at::Tensor> TokenLogprobs(const at::Tensor& hidden_NE, const at::Tensor& w_VE,
                                                const at::Tensor& packed,
                                                const at::Tensor& targets_N,
                                                const TokenLogprobsOptions& options) {
  if (Records(hidden_NE, w_VE)) {
    const variable_list out =
        TokenLogprobsFunction::apply(hidden_NE, w_VE, Optional(packed), targets_N, options);
    return {out[0], out[1]};
  }
  const forward::TokenLogprobs result =
      forward::ComputeTokenLogprobs(hidden_NE, w_VE, packed, targets_N, options, at::Tensor());
  return {result.logprobs_N, result.entropy_N};
}

}  // namespace rollcall::ops
