// An engine with one model from a directory, and what a bench wants to know of its steps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "services/model/config/precision.h"

namespace rollcall {

struct RigOptions {
  std::string model;            // directory
  int64_t kv_tokens = 0;        // that fit into the KV cache
  int32_t num_threads = 1;      // of a step
  int32_t max_sequences = 128;  // running at once
  Precision precision = Precision::kFloat32;
};

// Used from one thread.
class EngineRig {
 public:
  static StatusOr<std::unique_ptr<EngineRig>> Make(const RigOptions& options);
  ~EngineRig();

  // A group of `num_samples` completions of exactly num_new tokens at temperature 1.
  Status Add(std::vector<int32_t> prompt, int32_t num_samples, int32_t num_new);
  // The same under num_prompts random prompts of num_tokens each.
  Status AddRandom(int32_t num_prompts, int32_t num_tokens, int32_t num_samples, int32_t num_new);
  // One step; fails as soon as a sample does.
  Status Step();
  Status RunAll();

  const Engine& engine() const { return *engine_; }
  // Since the engine was made.
  int64_t num_computed() const;   // tokens that went through the model
  int64_t num_prefilled() const;  // of them tokens of prompts
  int64_t num_sampled() const;
  int64_t num_preempted() const;  // sequences
  int64_t num_completed() const { return num_completed_; }
  // Tokens of unfinished sequences whose keys and values are in the cache; as long as nothing is
  // preempted and groups have one sample.
  int64_t num_cached() const { return num_computed() - num_closed_; }

 private:
  class Metrics;
  EngineRig();

  const SystemClock clock_;
  const std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Engine> engine_;
  int64_t vocab_size_ = 0;
  std::vector<int32_t> prompt_lengths_;  // by group id
  int64_t num_completed_ = 0;
  int64_t num_closed_ = 0;  // cached tokens of samples that ended
};

}  // namespace rollcall
