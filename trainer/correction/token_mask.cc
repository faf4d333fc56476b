#include "trainer/correction/token_mask.h"

#include <algorithm>
#include <cmath>

namespace rollcall {

int64_t WeighTokenMask(double cap, std::span<const double> log_ratios, std::span<double> weights) {
  const double low = std::min(cap, 1.0 / cap);
  const double high = std::max(cap, 1.0 / cap);
  int64_t rejected = 0;
  for (size_t t = 0; t < log_ratios.size(); ++t) {
    const double weight = std::exp(std::clamp(log_ratios[t], -kMaxLogRatio, kMaxLogRatio));
    const bool inside = weight >= low && weight <= high;
    rejected += !inside;
    weights[t] = inside ? weight : 0.0;
  }
  return rejected;
}

}  // namespace rollcall
