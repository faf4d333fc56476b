// The arithmetic of a job: how much work a step is, and about how much memory each process takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/model/config/model_config.h"

namespace rollcall {

struct BatchPlan {
  int64_t prompts_per_step = 0;    // prompt groups, rows or pairs
  int64_t samples_per_prompt = 0;  // sequences of each
  int64_t sequences_per_step = 0;
  int64_t max_tokens_per_step = 0;
  int64_t updates_per_step = 0;
  int64_t total_steps = 0;
  int64_t total_updates = 0;
  int64_t total_sequences = 0;
};

// Estimates in bytes; 0 where the method has no such thing.
struct MemoryPlan {
  int64_t num_parameters = 0;
  // One learner rank.
  int64_t parameters = 0;
  int64_t gradients = 0;
  int64_t optimizer = 0;
  int64_t reference = 0;
  int64_t critic = 0;  // its parameters, gradients and optimizer states
  int64_t activations = 0;
  int64_t learner_rank = 0;  // the sum
  // One rollout worker.
  int64_t worker_parameters = 0;  // the version in use and the one that comes
  int64_t kv_cache = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t rollout_worker = 0;
};

struct JobPlan {
  BatchPlan batch;
  std::optional<MemoryPlan> memory;  // absent without a model
  std::vector<std::string> notes;    // worth knowing, no errors
};

// `spec` is resolved.
JobPlan PlanJob(const v1::JobSpec& spec, const std::optional<ModelConfig>& model);

// "32 prompts x 8 samples = 256 completions, at most 10752 tokens, 1 optimizer update a step; ..."
std::vector<std::string> PlanLines(const v1::JobSpec& spec, const JobPlan& plan);

}  // namespace rollcall
