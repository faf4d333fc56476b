#include "trainer/learner_metrics.h"

#include <algorithm>
#include <array>

namespace rollcall {
namespace {

// Label values are a fixed set; what is not in it is "other".
constexpr std::array<std::string_view, 12> kPhases = {
    "load",    "rendezvous", "wait_batch", "reference", "score",   "values",
    "forward", "backward",   "reduce",     "optimizer", "publish", "checkpoint"};

}  // namespace

LearnerMetrics::LearnerMetrics(MetricsRegistry& registry)
    : registry_(registry),
      epoch_(registry.GetGauge("rollcall_learner_group_epoch",
                               "Epoch of the learner group that this process is in.")),
      world_size_(
          registry.GetGauge("rollcall_learner_world_size",
                            "Ranks of the learner group that this process is in; 0 in none.")),
      step_(registry.GetGauge("rollcall_learner_step", "Last training step.")),
      steps_(registry.GetCounter("rollcall_learner_steps_total", "Training steps made.")),
      tokens_(registry.GetCounter("rollcall_learner_tokens_total",
                                  "Tokens of the batches trained on, over all ranks.")),
      updates_(registry.GetCounter("rollcall_learner_updates_total", "Optimizer updates made.")),
      fenced_(registry.GetCounter("rollcall_learner_fenced_total",
                                  "Assignments lost because the group was re-formed.")),
      failures_(registry.GetCounter("rollcall_learner_failures_total",
                                    "Assignments given up because of a failure of this rank.")) {
  for (const std::string_view phase : kPhases) PhaseTook(phase, -1);
}

void LearnerMetrics::GroupFormed(int64_t epoch, int world_size) {
  epoch_.Set(static_cast<double>(epoch));
  world_size_.Set(world_size);
}

void LearnerMetrics::GroupLeft() { world_size_.Set(0); }

void LearnerMetrics::StepTrained(int64_t step, double tokens, int updates) {
  step_.Set(static_cast<double>(step));
  steps_.Increment();
  tokens_.Increment(tokens);
  updates_.Increment(updates);
}

void LearnerMetrics::PhaseTook(std::string_view phase, double seconds) {
  const bool known = std::find(kPhases.begin(), kPhases.end(), phase) != kPhases.end();
  Histogram& histogram = registry_.GetHistogram(
      "rollcall_learner_phase_seconds", "Seconds that each phase of a training step took.",
      LatencyBuckets(), {{"phase", known ? std::string(phase) : "other"}});
  if (seconds >= 0) histogram.Observe(seconds);
}

}  // namespace rollcall
