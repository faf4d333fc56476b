// Which parameters a decoder has: the one table of names, shapes, order and initial values that
// loading, saving, checking and making models share. The names and shapes are the canonical ones
// of memory and of weight publication, the same for all architectures; disk_layout.h says how they
// lie in a file. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// Part of a decoder that a parameter belongs to. New ones go to the end: the random stream of a
// parameter's initial values depends on the number.
enum class ParameterRole {
  kEmbedding,
  kInputNorm,  // before attention
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kMlpNorm,  // before the feed-forward block
  kGateProj,
  kUpProj,
  kDownProj,
  kFinalNorm,
  kLmHead,
  kValueHead,
  kPositionEmbedding,
  kInputNormBias,
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kQNorm,
  kKNorm,
  kAttentionOutNorm,  // of what attention gives, before it is added
  kMlpNormBias,
  kGateBias,
  kUpBias,
  kDownBias,
  kMlpOutNorm,
  kFinalNormBias,
  kScore,
  kScoreBias,
};

struct ParameterSpec {
  std::string name;  // canonical name, which is Hugging Face's wherever a tensor stands alone there
  ParameterRole role = ParameterRole::kEmbedding;
  int64_t layer = -1;  // -1 outside the layers
  std::vector<int64_t> shape;
};

// In arena order: embedding, layers, final norm, output head. A tied output projection is not
// listed. Sizes must have passed ValidateModelConfig.
std::vector<ParameterSpec> ListParameters(const ModelConfig& config, Head head);

// Of the parameters that follow the decoder itself: output projection, value or score head.
bool IsHeadRole(ParameterRole role);

// float32 places of the parameters, one after the other without gaps.
std::vector<TensorLayout> ArenaLayout(const std::vector<ParameterSpec>& parameters);

// Values of the arena; a multiple of 64, the padding included.
int64_t ArenaValues(const std::vector<TensorLayout>& layout);

}  // namespace rollcall
