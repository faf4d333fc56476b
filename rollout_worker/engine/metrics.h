// What the engine tells about itself. Methods are events.
#pragma once

#include "rollout_worker/kv_cache/swap_space.h"
#include "services/base/metrics/metrics.h"

namespace rollcall {

// Thread-safe; valid as long as the registry.
class EngineMetrics {
 public:
  explicit EngineMetrics(MetricsRegistry& registry);

  void StepDone(double seconds, int num_tokens, int num_prefilled, int num_sampled);
  void PrefixHit(int num_tokens) { prefix_hit_tokens_.Increment(num_tokens); }
  void Preempted(int num_sequences) { preemptions_.Increment(num_sequences); }
  void SwappedOut(int num_sequences) { swap_preemptions_.Increment(num_sequences); }
  // What the swap space moved since the step before.
  void Swapped(const SwapStats& now, const SwapStats& before);

 private:
  Counter& sampled_tokens_;
  Counter& prefilled_tokens_;
  Counter& prefix_hit_tokens_;
  Counter& preemptions_;
  Counter& swap_preemptions_;
  Counter& swap_bytes_out_;
  Counter& swap_bytes_in_;
  Counter& swap_copies_out_;
  Counter& swap_copies_in_;
  Histogram& step_seconds_;
  Histogram& batch_tokens_;
};

}  // namespace rollcall
