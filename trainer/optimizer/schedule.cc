#include "trainer/optimizer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace rollcall {

double LearningRateFactor(const ScheduleOptions& options, int64_t step) {
  if (step <= options.warmup_steps) {
    return static_cast<double>(step) / static_cast<double>(options.warmup_steps);
  }
  const int64_t decay_steps = std::max<int64_t>(options.total_steps - options.warmup_steps, 1);
  const double progress = std::min(
      static_cast<double>(step - options.warmup_steps - 1) / static_cast<double>(decay_steps), 1.0);
  switch (options.shape) {
    case LearningRateShape::kConstant:
      return 1.0;
    case LearningRateShape::kLinear:
      return 1.0 - progress;
    case LearningRateShape::kCosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  return 1.0;
}

}  // namespace rollcall
