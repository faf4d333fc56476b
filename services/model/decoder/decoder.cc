#include "services/model/decoder/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>

#include "services/model/adapter/lora_weights.h"
#include "services/model/decoder/packed_weights.h"
#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/forward.h"
#include "services/model/layers/ops.h"
#include "services/model/layers/rotary_table.h"
#include "services/model/layers/row_tiles.h"

namespace rollcall {
namespace {

at::Tensor CopyIds(std::span<const int32_t> ids) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(ids.size())}, at::kInt);
  if (!ids.empty()) {
    std::memcpy(tensor.mutable_data_ptr<int32_t>(), ids.data(), ids.size_bytes());
  }
  return tensor;
}

Status CheckRange(std::span<const int32_t> values, int64_t bound, const char* what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= bound) {
      return InvalidArgument(std::string(what) + " " + std::to_string(values[i]) + " at index " +
                             std::to_string(i) + " is outside 0 .. " + std::to_string(bound - 1));
    }
  }
  return OkStatus();
}

Status CheckHidden(const ModelWeights& weights, const at::Tensor& hidden_NE) {
  if (hidden_NE.dim() == 2 && hidden_NE.size(1) == weights.config.hidden_size &&
      hidden_NE.scalar_type() == at::kFloat) {
    return OkStatus();
  }
  return InvalidArgument("hidden states must be float32 [N, " +
                         std::to_string(weights.config.hidden_size) + "]");
}

Status CheckLmHead(const ModelWeights& weights) {
  if (weights.lm_head_VE.defined()) return OkStatus();
  return FailedPrecondition("weights with a value or score head have no output projection");
}

at::Tensor Norm(const ModelConfig& config, const at::Tensor& x_NE, const at::Tensor& weight_E,
                const at::Tensor& bias_E, const Compute& compute) {
  if (config.norm_kind == NormKind::kLayer) {
    return ops::LayerNorm(x_NE, weight_E, bias_E, config.norm_eps, compute);
  }
  return ops::RmsNorm(
      x_NE, weight_E,
      {.eps = config.norm_eps, .weight_offset = config.is_norm_weight_from_one ? 1.0F : 0.0F},
      compute);
}

Compute In(Precision precision, const Compute& compute) {
  return {.team = compute.team, .precision = precision, .device = compute.device};
}

// What all layers of one call share.
struct Call {
  const ModelConfig& config;
  at::Tensor positions_N;
  at::Tensor table_PR;          // undefined with learned positions
  at::Tensor sliding_table_PR;  // of the sliding layers where they turn otherwise
  AttentionContext& attention;
  Compute compute;
};

void CopyRows(const at::Tensor& from, int64_t first, const at::Tensor& to) {
  const int64_t width = to.size(1);
  std::copy_n(from.const_data_ptr<float>(), from.numel(),
              to.mutable_data_ptr<float>() + first * width);
}

// y, and scale * B (A x) where the projection has an adapter.
at::Tensor Adapt(const at::Tensor& x_NE, at::Tensor y_NO, const LoraPair& lora,
                 const Compute& compute) {
  if (!lora.a_RI.defined()) return y_NO;
  const at::Tensor low_NR = at::mul(ops::Linear(x_NE, lora.a_RI, {}, {}, compute), lora.scale);
  return ops::Residual(std::move(y_NO), ops::Linear(low_NR, lora.b_OR, {}, {}, compute), compute);
}

// w x + b and what an adapter adds.
at::Tensor Project(const at::Tensor& x_NE, const ops::Projection& projection, const LoraPair& lora,
                   const Compute& compute) {
  return Adapt(x_NE,
               ops::Linear(x_NE, projection.w_OE, projection.bias_O, projection.packed, compute),
               lora, compute);
}

// The parameters of one layer in every form that they are needed in.
struct Layer {
  int64_t index = 0;
  const LayerWeights& weights;
  const PackedLayer& packed;
  const LayerLora& lora;
};

struct Qkv {
  at::Tensor q, k, v;
};

// All that a layer does for its rows one by one before they look at each other.
Qkv BeforeAttention(const Call& call, const Layer& layer, const at::Tensor& x_NE,
                    const at::Tensor& positions_N, const Compute& compute) {
  const ModelConfig& config = call.config;
  const LayerWeights& w = layer.weights;
  const PackedLayer& packed = layer.packed;
  const at::Tensor input_NE = config.norm_placement != NormPlacement::kAfter
                                  ? Norm(config, x_NE, w.input_norm_E, w.input_norm_bias_E, compute)
                                  : x_NE;
  const std::array projections{ops::Projection{w.q_proj_OE, w.q_bias_O, packed.q_proj},
                               ops::Projection{w.k_proj_OE, w.k_bias_O, packed.k_proj},
                               ops::Projection{w.v_proj_OE, w.v_bias_O, packed.v_proj}};
  std::vector<at::Tensor> qkv = ops::Linears(input_NE, projections, compute);
  at::Tensor q = Adapt(input_NE, std::move(qkv[0]), layer.lora.q_proj, compute);
  at::Tensor k = Adapt(input_NE, std::move(qkv[1]), layer.lora.k_proj, compute);
  at::Tensor v = Adapt(input_NE, std::move(qkv[2]), layer.lora.v_proj, compute);
  if (config.qk_norm != QkNorm::kNone) {
    q = Norm(config, q, w.q_norm, {}, compute);
    k = Norm(config, k, w.k_norm, {}, compute);
  }
  if (config.positions == Positions::kRotary) {
    const at::Tensor& table_PR = AttentionOfLayer(config, layer.index).is_sliding_rope
                                     ? call.sliding_table_PR
                                     : call.table_PR;
    q = ops::Rotary(q, config.head_dim, table_PR, positions_N, compute);
    k = ops::Rotary(k, config.head_dim, table_PR, positions_N, compute);
  }
  return {q, k, std::move(v)};
}

at::Tensor Mlp(const ModelConfig& config, const Layer& layer, const at::Tensor& x_NE,
               const Compute& compute) {
  const LayerWeights& w = layer.weights;
  const ops::Projection up{w.up_proj_FE, w.up_bias_F, layer.packed.up_proj};
  const ops::Projection gate{w.gate_proj_FE, w.gate_bias_F, layer.packed.gate_proj};
  at::Tensor inner_NF;
  if (config.is_mlp_gated) {
    std::vector<at::Tensor> both = ops::Linears(x_NE, std::array{up, gate}, compute);
    const at::Tensor up_NF = Adapt(x_NE, std::move(both[0]), layer.lora.up_proj, compute);
    const at::Tensor gate_NF = Adapt(x_NE, std::move(both[1]), layer.lora.gate_proj, compute);
    inner_NF = ops::Activate(config.activation, gate_NF, up_NF, compute);
  } else {
    inner_NF = ops::Activate(config.activation, Project(x_NE, up, layer.lora.up_proj, compute),
                             at::Tensor(), compute);
  }
  return Project(inner_NF, {w.down_proj_EF, w.down_bias_E, layer.packed.down_proj},
                 layer.lora.down_proj, compute);
}

// And after it: the residual blocks of attention and of the feed-forward network, which comes
// second or works on the same x. Without gradients the result is x itself.
at::Tensor AfterAttention(const ModelConfig& config, const Layer& layer, at::Tensor x_NE,
                          const at::Tensor& mixed_NO, const Compute& compute) {
  const LayerWeights& w = layer.weights;
  const bool is_before = config.norm_placement != NormPlacement::kAfter;
  const bool is_after = config.norm_placement != NormPlacement::kBefore;
  const auto mlp_input = [&] {
    return is_before ? Norm(config, x_NE, w.mlp_norm_E, w.mlp_norm_bias_E, compute) : x_NE;
  };
  at::Tensor mlp_input_NE;
  if (config.is_residual_parallel) mlp_input_NE = mlp_input();

  at::Tensor attended_NE =
      Project(mixed_NO, {w.o_proj_EO, w.o_bias_E, layer.packed.o_proj}, layer.lora.o_proj, compute);
  if (is_after) attended_NE = Norm(config, attended_NE, w.attention_out_norm_E, {}, compute);
  x_NE = ops::Residual(x_NE, attended_NE, compute);

  if (!config.is_residual_parallel) mlp_input_NE = mlp_input();
  at::Tensor out_NE = Mlp(config, layer, mlp_input_NE, compute);
  if (is_after) out_NE = Norm(config, out_NE, w.mlp_out_norm_E, {}, compute);
  return ops::Residual(x_NE, out_NE, compute);
}

at::Tensor DecoderLayer(const Call& call, const Layer& layer, const at::Tensor& x_NE) {
  const Qkv qkv = BeforeAttention(call, layer, x_NE, call.positions_N, call.compute);
  const at::Tensor mixed_NO = call.attention.Attend(layer.index, qkv.q, qkv.k, qkv.v);
  return AfterAttention(call.config, layer, x_NE, mixed_NO, call.compute);
}

// Many rows go through a layer in tiles, each on one thread: what it makes of them stays in the
// cache of its core, and nobody waits between two operations. x is changed in place.
void DecoderLayerInTiles(const Call& call, const Layer& layer, const RowTiles& tiles,
                         at::Tensor* x_NE) {
  const ModelConfig& config = call.config;
  const int64_t num_rows = x_NE->size(0);
  const auto empty = [&](int64_t num_heads) {
    return forward::Empty({num_rows, num_heads * config.head_dim});
  };
  const Qkv qkv{empty(config.num_heads), empty(config.num_kv_heads), empty(config.num_kv_heads)};
  tiles.Run([&](int64_t first, int64_t count, const Compute& compute) {
    const Qkv part = BeforeAttention(call, layer, x_NE->narrow(0, first, count),
                                     call.positions_N.narrow(0, first, count), compute);
    CopyRows(part.q, first, qkv.q);
    CopyRows(part.k, first, qkv.k);
    CopyRows(part.v, first, qkv.v);
  });
  const at::Tensor mixed_NO = call.attention.Attend(layer.index, qkv.q, qkv.k, qkv.v);
  tiles.Run([&](int64_t first, int64_t count, const Compute& compute) {
    AfterAttention(config, layer, x_NE->narrow(0, first, count), mixed_NO.narrow(0, first, count),
                   compute);
  });
}

at::Tensor Embed(const ModelWeights& weights, const at::Tensor& ids_N,
                 const at::Tensor& positions_N, const Compute& compute) {
  const ModelConfig& config = weights.config;
  const float scale = config.is_embedding_scaled
                          ? static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)))
                          : 1.0F;
  at::Tensor x_NE = ops::Embedding(weights.embed_VE, ids_N, scale, compute);
  if (config.positions == Positions::kLearned) {
    x_NE = ops::Residual(
        x_NE, ops::Embedding(weights.position_embed_PE, positions_N, 1.0F, compute), compute);
  }
  return x_NE;
}

// Positions are below num_positions. Throws.
at::Tensor Hidden(const ModelWeights& weights, const PackedWeights* packed, const at::Tensor& ids_N,
                  const at::Tensor& positions_N, int64_t num_positions, AttentionContext& attention,
                  const Compute& compute) {
  Call call{.config = weights.config,
            .positions_N = positions_N,
            .table_PR = {},
            .sliding_table_PR = {},
            .attention = attention,
            .compute = In(weights.config.precision, compute)};
  if (weights.rotary != nullptr) call.table_PR = weights.rotary->Covering(num_positions);
  if (weights.sliding_rotary != nullptr) {
    call.sliding_table_PR = weights.sliding_rotary->Covering(num_positions);
  }
  at::Tensor x_NE = Embed(weights, ids_N, positions_N, compute);
  const PackedLayer unpacked;
  const LayerLora no_adapter;
  const RowTiles tiles(ids_N.size(0), call.compute);
  const bool in_tiles = tiles.is_cut() && packed != nullptr && !at::GradMode::is_enabled() &&
                        call.compute.device == nullptr;
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const Layer layer{.index = static_cast<int64_t>(i),
                      .weights = weights.layers[i],
                      .packed = packed == nullptr ? unpacked : packed->layers[i],
                      .lora = weights.lora == nullptr ? no_adapter : weights.lora->layers[i]};
    if (in_tiles) {
      DecoderLayerInTiles(call, layer, tiles, &x_NE);
    } else {
      x_NE = DecoderLayer(call, layer, x_NE);
    }
  }
  return Norm(weights.config, x_NE, weights.final_norm_E, weights.final_norm_bias_E, compute);
}

}  // namespace

StatusOr<at::Tensor> DecoderHidden(const ModelWeights& weights, const PackedWeights* packed,
                                   std::span<const int32_t> token_ids,
                                   std::span<const int32_t> positions, AttentionContext& attention,
                                   const Compute& compute) {
  const ModelConfig& config = weights.config;
  if (token_ids.size() != positions.size()) {
    return InvalidArgument(std::to_string(token_ids.size()) + " tokens with " +
                           std::to_string(positions.size()) + " positions");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckRange(token_ids, config.vocab_size, "token id"));
  ROLLCALL_RETURN_IF_ERROR(CheckRange(positions, config.max_positions, "position"));
  return GuardExceptions("decoder", [&]() -> StatusOr<at::Tensor> {
    int32_t last = 0;
    for (int32_t position : positions) last = std::max(last, position);
    return Hidden(weights, packed, CopyIds(token_ids), CopyIds(positions), int64_t{last} + 1,
                  attention, compute);
  });
}

StatusOr<at::Tensor> DecoderHidden(const ModelWeights& weights, const PackedWeights* packed,
                                   const at::Tensor& token_ids_N, const at::Tensor& positions_N,
                                   AttentionContext& attention, const Compute& compute) {
  return GuardExceptions("decoder", [&]() -> StatusOr<at::Tensor> {
    return Hidden(weights, packed, token_ids_N, positions_N, weights.config.max_positions,
                  attention, compute);
  });
}

StatusOr<at::Tensor> Logits(const ModelWeights& weights, const PackedWeights* packed,
                            const at::Tensor& hidden_NE, const Compute& compute) {
  ROLLCALL_RETURN_IF_ERROR(CheckLmHead(weights));
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  return GuardExceptions("logits", [&]() -> StatusOr<at::Tensor> {
    at::Tensor logits_NV = ops::Linear(hidden_NE.contiguous(), weights.lm_head_VE, at::Tensor(),
                                       packed == nullptr ? at::Tensor() : packed->lm_head,
                                       In(weights.config.precision, compute));
    if (weights.config.logit_softcap == 0) return logits_NV;
    return ops::SoftCap(std::move(logits_NV), weights.config.logit_softcap, compute);
  });
}

StatusOr<TokenLogprobs> ComputeTokenLogprobs(const ModelWeights& weights,
                                             const PackedWeights* packed,
                                             const at::Tensor& hidden_NE,
                                             std::span<const int32_t> targets_N, double temperature,
                                             std::shared_ptr<const RowLaws> laws) {
  ROLLCALL_RETURN_IF_ERROR(CheckLmHead(weights));
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  if (hidden_NE.size(0) != static_cast<int64_t>(targets_N.size())) {
    return InvalidArgument(std::to_string(hidden_NE.size(0)) + " hidden states with " +
                           std::to_string(targets_N.size()) + " targets");
  }
  if (!(temperature > 0) || !std::isfinite(temperature)) {
    return InvalidArgument("temperature is " + std::to_string(temperature) +
                           "; expected a number above 0");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckRange(targets_N, weights.config.vocab_size, "target token id"));
  if (laws != nullptr && laws->rows_N.size() != targets_N.size()) {
    return InvalidArgument(std::to_string(laws->rows_N.size()) + " laws with " +
                           std::to_string(targets_N.size()) + " targets");
  }
  return GuardExceptions("token log-probabilities", [&]() -> StatusOr<TokenLogprobs> {
    const auto [logprobs_N, entropy_N] =
        ops::TokenLogprobs(hidden_NE.contiguous(), weights.lm_head_VE,
                           packed == nullptr ? at::Tensor() : packed->lm_head, CopyIds(targets_N),
                           {.temperature = temperature,
                            .softcap = weights.config.logit_softcap,
                            .laws = std::move(laws),
                            .precision = weights.config.precision});
    return TokenLogprobs{logprobs_N, entropy_N};
  });
}

void LogSoftmaxRow(std::span<const float> logits_V, double temperature, std::span<float> out_V) {
  ROLLCALL_CHECK(out_V.size() == logits_V.size() && temperature > 0);
  const CpuKernels& kernels = BestCpuKernels();
  const auto width = static_cast<int64_t>(logits_V.size());
  const auto inverse_temperature = static_cast<float>(1.0 / temperature);
  const LogSoftmaxStats stats =
      kernels.log_softmax_stats(logits_V.data(), width, inverse_temperature);
  kernels.log_softmax_write(logits_V.data(), width, inverse_temperature, stats, out_V.data());
}

StatusOr<at::Tensor> Values(const ModelWeights& weights, const at::Tensor& hidden_NE) {
  if (!weights.value_head_1E.defined()) {
    return FailedPrecondition("these weights have no value head");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  return GuardExceptions("values", [&]() -> StatusOr<at::Tensor> {
    return ops::Linear(hidden_NE.contiguous(), weights.value_head_1E, at::Tensor(), at::Tensor())
        .view({-1});
  });
}

StatusOr<at::Tensor> Scores(const ModelWeights& weights, const at::Tensor& hidden_NE) {
  if (!weights.score_LE.defined()) {
    return FailedPrecondition("these weights have no score head");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  return GuardExceptions("scores", [&]() -> StatusOr<at::Tensor> {
    return ops::Linear(hidden_NE.contiguous(), weights.score_LE, weights.score_bias_L,
                       at::Tensor());
  });
}

}  // namespace rollcall
