// The training state on disk. A checkpoint is a directory that is either whole or absent:
//
//   step_<n>/config.json, generation_config.json, model.safetensors   the policy, Hugging Face
//   format
//           tokenizer.json, ...                                       copied from the initial model
//           critic/config.json, critic/model.safetensors              with a critic only
//           optimizer.safetensors                                     AdamW moments
//           trainer_state.json                                        counters, size and XXH3-128
//           of
//                                                                     every other file
//
//   write step_<n>.tmp-<pid> -> fsync all -> rename -> fsync parent;  read: check every hash first
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// Borrowed memory of one model under training.
struct TrainedModelView {
  std::span<const float> parameters;
  std::span<const float> first_moment;
  std::span<const float> second_moment;
  int64_t num_updates = 0;
};

struct CheckpointView {
  std::string job_id;
  int64_t step = 0;
  uint64_t seed = 0;
  ModelConfig config;
  TrainedModelView policy;
  std::optional<TrainedModelView> critic;
};

// kResourceExhausted: disk full; every message names the path. A directory of the same name is
// replaced, and on failure stays as it was.
//   tokenizer_source  directory whose tokenizer files are copied
Status WriteCheckpoint(const std::string& directory, const CheckpointView& view,
                       const std::string& tokenizer_source);

// Just the model and its tokenizer files, written the same way.
Status WriteModel(const std::string& directory, const ModelConfig& config,
                  std::span<const float> parameters, const std::string& tokenizer_source);

struct OptimizerState {
  int64_t num_updates = 0;
  std::vector<float> first_moment;
  std::vector<float> second_moment;
};

// All but the weights, which LoadWeights reads from `directory` and CriticDirectory(directory).
struct CheckpointState {
  std::string job_id;
  int64_t step = 0;
  uint64_t seed = 0;
  OptimizerState policy;
  std::optional<OptimizerState> critic;
};

// Verifies every file, then reads. kNotFound: no checkpoint there; kDataLoss names the file that
// is missing, truncated or changed.
StatusOr<CheckpointState> ReadCheckpoint(const std::string& directory);

std::string CriticDirectory(const std::string& checkpoint_directory);

}  // namespace rollcall
