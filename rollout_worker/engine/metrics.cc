#include "rollout_worker/engine/metrics.h"

namespace rollcall {

EngineMetrics::EngineMetrics(MetricsRegistry& registry)
    : sampled_tokens_(registry.GetCounter("rollcall_rollout_sampled_tokens_total",
                                          "Tokens sampled from the policy.")),
      prefilled_tokens_(registry.GetCounter(
          "rollcall_rollout_prefilled_tokens_total",
          "Prompt tokens, and tokens of preempted sequences, computed without sampling.")),
      prefix_hit_tokens_(registry.GetCounter("rollcall_rollout_prefix_hit_tokens_total",
                                             "Tokens found in the KV cache at admission.")),
      preemptions_(registry.GetCounter("rollcall_rollout_preemptions_total",
                                       "Sequences that gave their KV blocks back to others.",
                                       {{"mode", "recompute"}})),
      swap_preemptions_(registry.GetCounter("rollcall_rollout_preemptions_total",
                                            "Sequences that gave their KV blocks back to others.",
                                            {{"mode", "swap"}})),
      step_seconds_(registry.GetHistogram("rollcall_rollout_step_seconds",
                                          "Time of one engine step.", LatencyBuckets())),
      batch_tokens_(registry.GetHistogram(
          "rollcall_rollout_batch_tokens", "Tokens computed in one engine step.",
          {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384})) {}

void EngineMetrics::StepDone(double seconds, int num_tokens, int num_prefilled, int num_sampled) {
  step_seconds_.Observe(seconds);
  batch_tokens_.Observe(num_tokens);
  prefilled_tokens_.Increment(num_prefilled);
  sampled_tokens_.Increment(num_sampled);
}

}  // namespace rollcall
