#include "rollout_worker/serving/metrics.h"

#include <utility>

namespace rollcall {

ServingMetrics::ServingMetrics(MetricsRegistry& registry, std::unique_ptr<VllmMetrics> vllm)
    : vllm_(std::move(vllm)),
      open_samples_(
          registry.GetGauge("rollcall_serving_open_samples", "Samples admitted and not finished")),
      calls_(registry.GetCounter("rollcall_serving_calls_total", "Calls admitted")),
      shed_(registry.GetCounter("rollcall_serving_calls_shed_total",
                                "Calls refused because too much was waiting")),
      unknown_fields_(registry.GetCounter("rollcall_serving_unknown_fields_total",
                                          "Fields of requests that nobody knows")),
      stopped_(registry.GetCounter("rollcall_serving_samples_total", "Finished samples",
                                   {{"reason", "stop"}})),
      cut_(registry.GetCounter("rollcall_serving_samples_total", "Finished samples",
                               {{"reason", "length"}})),
      prompt_tokens_(
          registry.GetCounter("rollcall_serving_prompt_tokens_total", "Tokens of prompts")),
      cached_tokens_(registry.GetCounter("rollcall_serving_cached_prompt_tokens_total",
                                         "Tokens of prompts that were in the prefix cache")),
      tokens_(registry.GetCounter("rollcall_serving_tokens_total", "Tokens of finished samples")),
      first_token_seconds_(registry.GetHistogram("rollcall_serving_first_token_seconds",
                                                 "From arrival to the first token",
                                                 LatencyBuckets())),
      token_seconds_(registry.GetHistogram("rollcall_serving_token_seconds",
                                           "From one token to the next", LatencyBuckets())),
      sample_seconds_(registry.GetHistogram("rollcall_serving_sample_seconds",
                                            "From arrival to the end of a sample",
                                            LatencyBuckets())) {
  const std::array<const char*, 4> reasons = {"client_gone", "deadline", "shutdown", "other"};
  for (size_t i = 0; i < reasons.size(); ++i) {
    failures_[i] =
        &registry.GetCounter("rollcall_serving_calls_failed_total",
                             "Calls that ended before their time", {{"reason", reasons[i]}});
  }
}

void ServingMetrics::CallFailed(CallFailure failure) {
  failures_[static_cast<size_t>(failure)]->Increment();
  if (vllm_) vllm_->SampleAborted();
}

void ServingMetrics::SampleFinished(const FinishedSample& sample) {
  (sample.end == CompletionEnd::kStop ? stopped_ : cut_).Increment();
  if (sample.is_first) {
    prompt_tokens_.Increment(static_cast<double>(sample.num_prompt_tokens));
    cached_tokens_.Increment(static_cast<double>(sample.num_cached_tokens));
    if (sample.times.first_token >= sample.arrival) {
      first_token_seconds_.Observe(
          absl::ToDoubleSeconds(sample.times.first_token - sample.arrival));
    }
  }
  tokens_.Increment(static_cast<double>(sample.num_tokens));
  sample_seconds_.Observe(absl::ToDoubleSeconds(sample.finished - sample.arrival));
  if (vllm_) vllm_->SampleFinished(sample);
}

void ServingMetrics::TokenAfter(double seconds) {
  token_seconds_.Observe(seconds);
  if (vllm_) vllm_->TokenAfter(seconds);
}

}  // namespace rollcall
