// What a learner is told, in plain types.
#pragma once

#include <cstdint>
#include <string>

#include "services/model/config/precision.h"
#include "services/model/law/sampling_law.h"
#include "trainer/optimizer/adamw.h"
#include "trainer/optimizer/schedule.h"

namespace rollcall {

enum class KlPlacement { kNone, kLoss, kReward };

// Part names are those of the registries.
struct AlgorithmOptions {
  std::string advantage = "none";
  std::string loss = "nll";
  std::string aggregation = "token_mean";
  std::string pair_builder = "none";
  std::string correction = "none";
  bool whiten_advantages = false;
  KlPlacement kl_placement = KlPlacement::kNone;
  std::string kl_estimator;  // unused without a placement
  double kl_coefficient = 0;
  double clip_low = 0.2;
  double clip_high = 0.2;
  double correction_cap = 2.0;
  double gamma = 1.0;
  double lambda = 0.95;
  double beta = 0.1;
  double label_smoothing = 0;
  double value_clip = 0.2;
  double value_coefficient = 0.1;
  double entropy_coefficient = 0;
};

struct LearnerOptimizerOptions {
  double learning_rate = 1e-6;
  double critic_learning_rate = 9e-6;
  AdamWOptions adamw;
  double max_grad_norm = 1.0;  // 0: no clipping
  ScheduleOptions schedule;
};

struct LearnerOptions {
  std::string job_id;
  uint64_t seed = 0;
  std::string model_path;    // initial policy, and the frozen reference
  std::string adapter_path;  // low-rank adapter that is merged into both; empty: none
  Precision precision = Precision::kFloat32;  // of all models, the frozen reference included
  std::string checkpoint_dir;                 // empty: start from model_path
  int64_t resume_step = 0;                    // step of that checkpoint
  AlgorithmOptions algorithm;
  LearnerOptimizerOptions optimizer;
  int64_t epochs_per_step = 1;
  int64_t minibatches_per_epoch = 1;
  int64_t max_tokens_per_microbatch = 8192;
  int64_t critic_warmup_steps = 0;    // first steps in which the policy stands still
  double temperature = 1.0;           // of the sampler; all log-probabilities are taken at it, > 0
  SamplingLaw law;                    // of the sampler: its penalties and bias
  int64_t max_completion_tokens = 1;  // constant of seq_mean_token_sum_const
};

}  // namespace rollcall
