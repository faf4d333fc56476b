// Writes model directories in Hugging Face's format. No torch.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"
#include "services/model/weights/architecture.h"

namespace rollcall {

struct WriteModelOptions {
  DType dtype = DType::kF32;  // of the tensors on disk: F32, BF16 or F16, rounded to nearest even
  // Tensors of a file; a model that is larger gets several files and an index, a tensor that is
  // larger a file of its own. 0: one file whatever its size.
  uint64_t max_shard_bytes = 0;
};

// Writes the parameters' float32 values (an arena of ListParameters) as a model directory that
// transformers loads: config.json (of the class that has this head), generation_config.json, then
// the weights, each file atomically; weights of an earlier model in the directory go last, so that
// there is always one that is complete. Besides the arena, memory for one shard at most.
// kInvalidArgument: transformers has no such class, or a value is too large for F16 (names the
// tensor). kResourceExhausted: disk full.
Status WriteModelDirectory(const std::string& directory, const ModelConfig& config, Head head,
                           std::span<const float> arena, const WriteModelOptions& options = {});

}  // namespace rollcall
