// What serving tells about itself. Methods are events.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "rollout_worker/engine/types.h"
#include "rollout_worker/serving/vllm_metrics.h"
#include "services/base/metrics/metrics.h"

namespace rollcall {

// Why a call ended before its time.
enum class CallFailure { kClientGone, kDeadline, kShutdown, kOther };

// Thread-safe; valid as long as the registry.
class ServingMetrics {
 public:
  // `vllm` may be null: its names are not exported.
  ServingMetrics(MetricsRegistry& registry, std::unique_ptr<VllmMetrics> vllm);

  void OpenSamples(size_t count) { open_samples_.Set(static_cast<double>(count)); }
  void CallStarted() { calls_.Increment(); }
  // Too much was waiting.
  void CallShed() { shed_.Increment(); }
  void CallFailed(CallFailure failure);
  void SampleFinished(const FinishedSample& sample);
  // A streamed token came so long after the one before it.
  void TokenAfter(double seconds);
  void UnknownField() { unknown_fields_.Increment(); }

 private:
  const std::unique_ptr<VllmMetrics> vllm_;
  Gauge& open_samples_;
  Counter& calls_;
  Counter& shed_;
  Counter& unknown_fields_;
  std::array<Counter*, 4> failures_{};
  Counter& stopped_;
  Counter& cut_;
  Counter& prompt_tokens_;
  Counter& cached_tokens_;
  Counter& tokens_;
  Histogram& first_token_seconds_;
  Histogram& token_seconds_;
  Histogram& sample_seconds_;
};

}  // namespace rollcall
