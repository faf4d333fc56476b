// Which tensors an architecture has: the one table of names, shapes, order and initial values that
// loading, saving, checking and making models share. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// What sits on top of the last hidden state.
enum class Head { kLanguageModel, kValue };

// Part of a decoder that a parameter belongs to.
enum class ParameterRole {
  kEmbedding,
  kInputNorm,
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kPostNorm,
  kGateProj,
  kUpProj,
  kDownProj,
  kFinalNorm,
  kLmHead,
  kValueHead,
};

struct ParameterSpec {
  std::string name;  // Hugging Face name
  ParameterRole role = ParameterRole::kEmbedding;
  int64_t layer = -1;  // -1 outside the layers
  std::vector<int64_t> shape;
};

// In arena order: embedding, layers, final norm, output head. A tied output projection is not
// listed. Sizes must have passed ValidateModelConfig.
std::vector<ParameterSpec> ListParameters(const ModelConfig& config, Head head);

// float32 places of the parameters, one after the other without gaps.
std::vector<TensorLayout> ArenaLayout(const std::vector<ParameterSpec>& parameters);

// Values of the arena; a multiple of 64, the padding included.
int64_t ArenaValues(const std::vector<TensorLayout>& layout);

}  // namespace rollcall
