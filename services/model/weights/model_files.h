// A model directory in Hugging Face's format: config.json and model.safetensors, or shards with an
// index. No torch, so that the control plane can check a model before anything is started.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"
#include "services/model/weights/architecture.h"
#include "services/model/weights/disk_layout.h"
#include "services/model/weights/safetensors.h"

namespace rollcall {

// The opened files of one directory. Move-only use; views live as long as the object.
class ModelFiles {
 public:
  // Errors name file and tensor: missing, truncated, doubled between shards, config that does not
  // parse. Checks headers, not shapes against the architecture.
  static StatusOr<ModelFiles> Open(const std::string& directory);

  const ModelConfig& config() const { return config_; }
  const std::vector<SafetensorsFile>& shards() const { return shards_; }

  struct Found {
    const TensorLayout* layout = nullptr;
    std::span<const std::byte> data;
    const std::string* path = nullptr;
  };
  // Under its name or one of its aliases. kNotFound names directory and tensor; kInvalidArgument
  // when the shape is another one or the dtype is not F32, BF16 or F16.
  StatusOr<Found> Find(const DiskTensor& tensor) const;

 private:
  std::string directory_;
  ModelConfig config_;
  std::vector<SafetensorsFile> shards_;
};

struct ModelDirectoryInfo {
  ModelConfig config;
  int64_t num_parameters = 0;
  uint64_t size_bytes = 0;    // of the parameters' tensors on disk
  DType dtype = DType::kF32;  // of most of them
  int num_files = 1;
  Head head = Head::kLanguageModel;  // of the class that config.json names
  bool has_value_head = false;
  bool has_output_projection = true;  // false: a critic's or a reward model's directory
};

// The directory is complete: every tensor of the architecture is there with the right shape and a
// dtype that loads. Reads headers only.
StatusOr<ModelDirectoryInfo> CheckModelDirectory(const std::string& directory);

// Reads the parameters of a model with this head into an arena of ListParameters, tensor by tensor;
// pages of a file are given back once they were read, so that besides the arena at most one tensor
// is in memory. A value head that is not there stays as it is; every other tensor must be there
// (checked first, errors as of ModelFiles::Find).
Status ReadParameters(const ModelFiles& files, Head head, std::span<float> arena);
// The check alone, without reading: which of ListDiskTensors are there.
StatusOr<std::vector<bool>> CheckParameters(const ModelFiles& files, Head head);

}  // namespace rollcall
