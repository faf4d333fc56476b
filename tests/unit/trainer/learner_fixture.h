// A tiny model on disk and random batches for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/temp_dir.h"
#include "trainer/batch/types.h"
#include "trainer/learner/learner.h"

namespace rollcall::testing {

// Writes a random Llama of two layers, 32 tokens and 64 positions; returns its directory.
std::string WriteTinyModel(const TempDir& dir, const std::string& name = "model",
                           uint64_t seed = 1);

struct BatchShape {
  int64_t step = 1;
  int64_t num_groups = 5;
  int64_t samples_per_group = 4;
  bool sampled = true;  // otherwise data set rows, ranked 0, 1, ...
  uint64_t seed = 1;
};

// The whole batch. Sampled sequences have rewards, observation gaps and arbitrary behaviour
// log-probabilities; one of them is empty.
TrainBatch RandomBatch(const BatchShape& shape);

// What one rank of the group gets.
TrainBatch ShareOf(const TrainBatch& whole, int rank, int world_size);

// Settings under which a parameter moves by g / (|g| + 1) in the first update, so that gradients
// can be compared (and read back) through the weights.
LearnerOptions GradientOptions(const std::string& model_path);

std::vector<float> Parameters(const Learner& learner);

// Largest absolute difference.
double Distance(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace rollcall::testing
