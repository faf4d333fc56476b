#include "services/model/decoder/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "services/model/decoder/packed_weights.h"
#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/ops.h"
#include "services/model/layers/rotary_table.h"

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
  return FailedPrecondition("weights with a value head have no output projection");
}

// One residual block pair: attention, then the gated feed-forward network.
at::Tensor DecoderLayer(const ModelConfig& config, const LayerWeights& layer,
                        const PackedLayer& packed, int64_t index, const at::Tensor& table_PD,
                        const at::Tensor& positions_N, AttentionContext& attention,
                        at::Tensor x_NE) {
  const at::Tensor normed_NE = ops::RmsNorm(x_NE, layer.input_norm_E, config.rms_norm_eps);
  const at::Tensor q = ops::Rotary(ops::Linear(normed_NE, layer.q_proj_OE, packed.q_proj),
                                   config.head_dim, table_PD, positions_N);
  const at::Tensor k = ops::Rotary(ops::Linear(normed_NE, layer.k_proj_OE, packed.k_proj),
                                   config.head_dim, table_PD, positions_N);
  const at::Tensor v = ops::Linear(normed_NE, layer.v_proj_OE, packed.v_proj);
  const at::Tensor attended = attention.Attend(index, q, k, v);
  x_NE = ops::Residual(x_NE, ops::Linear(attended, layer.o_proj_EO, packed.o_proj));

  const at::Tensor mlp_NE = ops::RmsNorm(x_NE, layer.post_norm_E, config.rms_norm_eps);
  const at::Tensor inner_NF = ops::Swiglu(ops::Linear(mlp_NE, layer.gate_proj_FE, packed.gate_proj),
                                          ops::Linear(mlp_NE, layer.up_proj_FE, packed.up_proj));
  return ops::Residual(x_NE, ops::Linear(inner_NF, layer.down_proj_EF, packed.down_proj));
}

}  // namespace

StatusOr<at::Tensor> DecoderHidden(const ModelWeights& weights, const PackedWeights* packed,
                                   std::span<const int32_t> token_ids,
                                   std::span<const int32_t> positions,
                                   AttentionContext& attention) {
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
    const at::Tensor table_PD = weights.rotary->Covering(int64_t{last} + 1);
    const at::Tensor positions_N = CopyIds(positions);
    at::Tensor x_NE = ops::Embedding(weights.embed_VE, CopyIds(token_ids));
    const PackedLayer unpacked;
    for (size_t i = 0; i < weights.layers.size(); ++i) {
      x_NE =
          DecoderLayer(config, weights.layers[i], packed == nullptr ? unpacked : packed->layers[i],
                       static_cast<int64_t>(i), table_PD, positions_N, attention, x_NE);
    }
    return ops::RmsNorm(x_NE, weights.final_norm_E, config.rms_norm_eps);
  });
}

StatusOr<at::Tensor> Logits(const ModelWeights& weights, const PackedWeights* packed,
                            const at::Tensor& hidden_NE) {
  ROLLCALL_RETURN_IF_ERROR(CheckLmHead(weights));
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  return GuardExceptions("logits", [&]() -> StatusOr<at::Tensor> {
    return ops::Linear(hidden_NE.contiguous(), weights.lm_head_VE,
                       packed == nullptr ? at::Tensor() : packed->lm_head);
  });
}

StatusOr<TokenLogprobs> ComputeTokenLogprobs(const ModelWeights& weights,
                                             const PackedWeights* packed,
                                             const at::Tensor& hidden_NE,
                                             std::span<const int32_t> targets_N,
                                             double temperature) {
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
  return GuardExceptions("token log-probabilities", [&]() -> StatusOr<TokenLogprobs> {
    const auto [logprobs_N, entropy_N] =
        ops::TokenLogprobs(hidden_NE.contiguous(), weights.lm_head_VE,
                           packed == nullptr ? at::Tensor() : packed->lm_head, CopyIds(targets_N),
                           {.temperature = temperature});
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
    return FailedPrecondition("weights of a language model have no value head");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckHidden(weights, hidden_NE));
  return GuardExceptions("values", [&]() -> StatusOr<at::Tensor> {
    return ops::Linear(hidden_NE.contiguous(), weights.value_head_1E, at::Tensor()).view({-1});
  });
}

}  // namespace rollcall
