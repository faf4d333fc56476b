// One model under training: weights, flat gradient, optimizer state.
#pragma once

#include <optional>
#include <span>

#include "services/base/status/status.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/optimizer/adamw.h"

namespace rollcall {

class TrainedModel {
 public:
  // `weights` were made with Gradients::kAccumulate. kDataLoss when the state is of another size.
  static StatusOr<TrainedModel> Make(ModelWeights weights, const AdamWOptions& options,
                                     std::optional<OptimizerState> state);

  const ModelWeights& weights() const { return weights_; }
  at::Tensor& gradient() { return gradient_; }
  std::span<float> gradient_values();
  std::span<float> parameters();
  std::span<const float> parameters() const;

  void ZeroGradient();
  // AdamW on the gradient as it is.
  void Update(double learning_rate);

  TrainedModelView View() const;

 private:
  TrainedModel(ModelWeights weights, const AdamWOptions& options);

  ModelWeights weights_;
  at::Tensor gradient_;
  AdamW optimizer_;
};

}  // namespace rollcall
