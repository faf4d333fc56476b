#include "trainer/correction/token_truncate.h"

#include <algorithm>
#include <cmath>

namespace rollcall {

int64_t WeighTokenTruncate(double cap, std::span<const double> log_ratios,
                           std::span<double> weights) {
  int64_t cut = 0;
  for (size_t t = 0; t < log_ratios.size(); ++t) {
    const double weight = std::exp(std::clamp(log_ratios[t], -kMaxLogRatio, kMaxLogRatio));
    cut += weight > cap;
    weights[t] = std::min(weight, cap);
  }
  return cut;
}

}  // namespace rollcall
