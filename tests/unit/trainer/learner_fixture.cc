#include "tests/unit/trainer/learner_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "services/base/runtime/random.h"
#include "services/model/weights/init_model.h"
#include "tests/support/catch.h"

namespace rollcall::testing {

std::string WriteTinyModel(const TempDir& dir, const std::string& name, uint64_t seed) {
  InitModelOptions options;
  options.directory = dir.File(name);
  options.seed = seed;
  options.config = {.vocab_size = 32,
                    .hidden_size = 16,
                    .intermediate_size = 24,
                    .num_layers = 2,
                    .num_heads = 2,
                    .num_kv_heads = 1,
                    .head_dim = 8,
                    .max_positions = 64,
                    .eos_token_ids = {2},
                    .bos_token_id = 1};
  REQUIRE_OK(InitModelDirectory(options));
  return options.directory;
}

TrainBatch RandomBatch(const BatchShape& shape) {
  CounterRandom random(shape.seed * 1000 + static_cast<uint64_t>(shape.step));
  TrainBatch batch;
  batch.step = shape.step;
  batch.num_groups = shape.num_groups;
  for (int64_t g = 0; g < shape.num_groups; ++g) {
    TrainGroup& group = batch.groups.emplace_back();
    group.prompt_id = g;
    const uint64_t prompt_tokens = 2 + random.Below(4);
    std::vector<int32_t> prompt;
    for (uint64_t t = 0; t < prompt_tokens; ++t) {
      prompt.push_back(static_cast<int32_t>(random.Below(32)));
    }
    for (int64_t i = 0; i < shape.samples_per_group; ++i) {
      TrainSequence& sequence = group.sequences.emplace_back();
      sequence.prompt_id = g;
      sequence.sample_index = static_cast<int32_t>(i);
      sequence.token_ids = prompt;
      sequence.trains.assign(prompt.size(), 0);
      const bool empty = shape.sampled && g == 1 && i == 1;
      const uint64_t length = empty ? 0 : 1 + random.Below(9);
      for (uint64_t t = 0; t < length; ++t) {
        sequence.token_ids.push_back(static_cast<int32_t>(random.Below(32)));
        sequence.trains.push_back(!shape.sampled || random.Below(6) != 0);
      }
      if (shape.sampled) {
        for (size_t t = 0; t < sequence.token_ids.size(); ++t) {
          const bool trains = sequence.trains[t] != 0;
          sequence.behavior_logprobs.push_back(
              trains ? static_cast<float>(-3.46 + 0.2 * random.Normal()) : 0.0F);
        }
        sequence.reward = static_cast<double>(random.Below(3)) / 2;
      } else {
        sequence.preference_rank = static_cast<int32_t>(i);
      }
      ++batch.num_samples;
    }
  }
  return batch;
}

TrainBatch ShareOf(const TrainBatch& whole, int rank, int world_size) {
  TrainBatch share = whole;
  share.groups.clear();
  for (size_t g = rank; g < whole.groups.size(); g += world_size) {
    share.groups.push_back(whole.groups[g]);
  }
  return share;
}

LearnerOptions GradientOptions(const std::string& model_path) {
  LearnerOptions options;
  options.job_id = "job";
  options.seed = 7;
  options.model_path = model_path;
  options.optimizer.learning_rate = 1.0;
  options.optimizer.critic_learning_rate = 1.0;
  options.optimizer.adamw.epsilon = 1.0;
  options.optimizer.max_grad_norm = 0;
  options.optimizer.schedule.total_steps = 100;
  options.max_completion_tokens = 10;
  return options;
}

std::vector<float> Parameters(const Learner& learner) {
  REQUIRE_OK_AND_ASSIGN(const std::vector<std::byte> bytes, learner.Snapshot());
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double distance = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(distance <= largest)) largest = distance;
  }
  return largest;
}

}  // namespace rollcall::testing
