#include "rollout_worker/engine/metrics.h"

#include <string>

namespace rollcall {
namespace {

Counter& SwapBytes(MetricsRegistry& registry, const std::string& direction) {
  return registry.GetCounter("rollcall_rollout_swap_bytes_total",
                             "KV memory moved to host memory and back.",
                             {{"direction", direction}});
}

Counter& SwapCopies(MetricsRegistry& registry, const std::string& direction) {
  return registry.GetCounter("rollcall_rollout_swap_copies_total",
                             "Contiguous pieces in which KV memory was swapped.",
                             {{"direction", direction}});
}

}  // namespace

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
      swap_bytes_out_(SwapBytes(registry, "out")),
      swap_bytes_in_(SwapBytes(registry, "in")),
      swap_copies_out_(SwapCopies(registry, "out")),
      swap_copies_in_(SwapCopies(registry, "in")),
      step_seconds_(registry.GetHistogram("rollcall_rollout_step_seconds",
                                          "Time of one engine step.", LatencyBuckets())),
      batch_tokens_(registry.GetHistogram(
          "rollcall_rollout_batch_tokens", "Tokens computed in one engine step.",
          {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384})) {}

void EngineMetrics::Swapped(const SwapStats& now, const SwapStats& before) {
  swap_bytes_out_.Increment(static_cast<double>(now.bytes_out - before.bytes_out));
  swap_bytes_in_.Increment(static_cast<double>(now.bytes_in - before.bytes_in));
  swap_copies_out_.Increment(static_cast<double>(now.copies_out - before.copies_out));
  swap_copies_in_.Increment(static_cast<double>(now.copies_in - before.copies_in));
}

void EngineMetrics::StepDone(double seconds, int num_tokens, int num_prefilled, int num_sampled) {
  step_seconds_.Observe(seconds);
  batch_tokens_.Observe(num_tokens);
  prefilled_tokens_.Increment(num_prefilled);
  sampled_tokens_.Increment(num_sampled);
}

}  // namespace rollcall
