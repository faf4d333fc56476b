// Learning rate of a training step: linear warm-up, then constant, linear or cosine to zero.
#pragma once

#include <cstdint>

namespace rollcall {

enum class LearningRateShape { kConstant, kLinear, kCosine };

struct ScheduleOptions {
  LearningRateShape shape = LearningRateShape::kConstant;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
};

// Factor of the peak rate at step 1 .. total_steps: step / warmup_steps up to warmup_steps, then 1
// falling (linear, cosine) towards 0, which the step after the last one would reach. All updates
// of a step share its rate.
double LearningRateFactor(const ScheduleOptions& options, int64_t step);

}  // namespace rollcall
