// Makes a fresh model directory. No torch: `rollcall init-model` uses it.
#pragma once

#include <cstdint>
#include <string>

#include "services/base/status/status.h"
#include "services/model/config/model_config.h"

namespace rollcall {

struct InitModelOptions {
  std::string directory;  // made when it does not exist; files in it are replaced
  ModelConfig config;     // sizes and special tokens; head_dim 0: hidden_size / num_heads
  uint64_t seed = 0;
};

// Writes config.json, generation_config.json and model.safetensors with the initial values that
// InitializeWeights gives for the same seed. Tokenizer files are the caller's business.
// kInvalidArgument when the sizes do not fit together or the weights exceed 2^34 values.
Status InitModelDirectory(const InitModelOptions& options);

}  // namespace rollcall
