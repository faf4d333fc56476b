#include "trainer/learner/trained_model.h"

#include <cstring>
#include <string>
#include <utility>

namespace rollcall {

TrainedModel::TrainedModel(ModelWeights weights, const AdamWOptions& options)
    : weights_(std::move(weights)),
      gradient_(GradArena(weights_)),
      optimizer_(options, static_cast<size_t>(weights_.arena.numel())) {}

StatusOr<TrainedModel> TrainedModel::Make(ModelWeights weights, const AdamWOptions& options,
                                          std::optional<OptimizerState> state) {
  TrainedModel model(std::move(weights), options);
  const size_t size = model.parameters().size();
  ROLLCALL_CHECK(model.gradient_values().size() == size);
  if (state.has_value()) {
    if (state->first_moment.size() != size || state->second_moment.size() != size) {
      return DataLoss("optimizer state has " + std::to_string(state->first_moment.size()) +
                      " values, the model has " + std::to_string(size));
    }
    model.optimizer_.Restore(state->num_updates, std::move(state->first_moment),
                             std::move(state->second_moment));
  }
  return model;
}

std::span<float> TrainedModel::gradient_values() {
  return {gradient_.mutable_data_ptr<float>(), static_cast<size_t>(gradient_.numel())};
}

std::span<float> TrainedModel::parameters() {
  return {weights_.arena.mutable_data_ptr<float>(), static_cast<size_t>(weights_.arena.numel())};
}

std::span<const float> TrainedModel::parameters() const {
  return {weights_.arena.const_data_ptr<float>(), static_cast<size_t>(weights_.arena.numel())};
}

void TrainedModel::ZeroGradient() {
  const std::span<float> values = gradient_values();
  std::memset(values.data(), 0, values.size_bytes());
}

void TrainedModel::Update(double learning_rate) {
  optimizer_.Update(learning_rate, gradient_values(), parameters());
}

TrainedModelView TrainedModel::View() const {
  return {.parameters = parameters(),
          .first_moment = optimizer_.first_moment(),
          .second_moment = optimizer_.second_moment(),
          .num_updates = optimizer_.num_updates()};
}

}  // namespace rollcall
