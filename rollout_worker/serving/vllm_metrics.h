// vLLM's metrics under vLLM's names, so that dashboards made for it show this service too.
// What the engine counts itself is in alias_registry.h.
// Source: vLLM v1, vllm/v1/metrics/loggers.py: names, labels, buckets and intervals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "rollout_worker/engine/types.h"
#include "services/base/metrics/metrics.h"

namespace rollcall {

// What is known of a sample when it ends.
struct FinishedSample {
  CompletionEnd end = CompletionEnd::kLength;
  absl::Time arrival;  // before its text was turned into tokens
  absl::Time finished;
  SequenceTimes times;
  size_t num_prompt_tokens = 0;
  size_t num_cached_tokens = 0;
  size_t num_tokens = 0;
  int32_t max_tokens = 0;
  size_t num_samples = 0;  // of its prompt
  bool is_first = false;   // of its prompt: the prompt was computed for it
};

// Thread-safe; valid as long as the registry.
class VllmMetrics {
 public:
  VllmMetrics(MetricsRegistry& registry, const std::string& model_name, int64_t max_model_len);

  void SampleFinished(const FinishedSample& sample);
  void SampleAborted() { aborted_.Increment(); }
  void TokenAfter(double seconds);

 private:
  Counter& prefix_queries_;
  Counter& prefix_hits_;
  Counter& prompt_tokens_;
  Counter& generation_tokens_;
  Counter& stopped_;
  Counter& cut_;
  Counter& aborted_;
  Histogram& request_prompt_tokens_;
  Histogram& request_generation_tokens_;
  Histogram& request_max_tokens_;
  Histogram& request_n_;
  Histogram& request_limit_;
  Histogram& first_token_seconds_;
  Histogram& time_per_output_token_;
  Histogram& inter_token_seconds_;
  Histogram& e2e_seconds_;
  Histogram& queue_seconds_;
  Histogram& inference_seconds_;
  Histogram& prefill_seconds_;
  Histogram& decode_seconds_;
};

}  // namespace rollcall
