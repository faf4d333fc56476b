#include "trainer/learner/forward.h"

#include <cstring>
#include <memory>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

namespace rollcall {
namespace {

// Hidden rows that predict the trainable tokens.
StatusOr<at::Tensor> PredictingRows(const ModelWeights& weights, const PackedTokens& batch) {
  const std::unique_ptr<AttentionContext> attention =
      MakePackedAttention(weights.config, batch.starts);
  ROLLCALL_ASSIGN_OR_RETURN(
      const at::Tensor hidden_NE,
      DecoderHidden(weights, nullptr, batch.token_ids_N, batch.positions_N, *attention));
  const auto num_rows = static_cast<int64_t>(batch.rows_T.size());
  at::Tensor rows_T = at::empty({num_rows}, at::kLong);
  std::memcpy(rows_T.mutable_data_ptr<int64_t>(), batch.rows_T.data(),
              batch.rows_T.size() * sizeof(int64_t));
  return at::index_select(hidden_NE, 0, rows_T);
}

}  // namespace

StatusOr<TokenLogprobs> ForwardLogprobs(const ModelWeights& policy, const PackedTokens& batch,
                                        double temperature, std::shared_ptr<const RowLaws> laws) {
  return GuardExceptions("policy forward", [&]() -> StatusOr<TokenLogprobs> {
    ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor rows_TE, PredictingRows(policy, batch));
    return ComputeTokenLogprobs(policy, nullptr, rows_TE, batch.targets_T, temperature,
                                std::move(laws));
  });
}

StatusOr<at::Tensor> ForwardValues(const ModelWeights& critic, const PackedTokens& batch) {
  return GuardExceptions("critic forward", [&]() -> StatusOr<at::Tensor> {
    ROLLCALL_ASSIGN_OR_RETURN(const at::Tensor rows_TE, PredictingRows(critic, batch));
    return Values(critic, rows_TE);
  });
}

}  // namespace rollcall
