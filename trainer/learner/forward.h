// Forward passes over a packed micro-batch. Log-probabilities and values are those of the state
// before the token; only trainable tokens are projected.
#pragma once

#include <memory>

#include "services/base/status/status.h"
#include "services/model/decoder/decoder.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"
#include "trainer/batch/packing.h"

namespace rollcall {

// float32 [T] each. The batch has at least one trainable token. Differentiable in the weights when
// grad mode is on. `laws` as MakeRowLaws gives them.
StatusOr<TokenLogprobs> ForwardLogprobs(const ModelWeights& policy, const PackedTokens& batch,
                                        double temperature,
                                        std::shared_ptr<const RowLaws> laws = nullptr);
StatusOr<at::Tensor> ForwardValues(const ModelWeights& critic, const PackedTokens& batch);

}  // namespace rollcall
