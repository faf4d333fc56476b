#include "trainer/optimizer/clip.h"

#include <cmath>
#include <cstddef>

namespace rollcall {

double GlobalNorm(std::span<const float> gradient) {
  // Four independent sums keep the pipeline busy; the order is fixed all the same.
  double sums[4] = {0, 0, 0, 0};
  const size_t n = gradient.size();
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (size_t k = 0; k < 4; ++k) {
      const double g = gradient[i + k];
      sums[k] += g * g;
    }
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(gradient[i]) * gradient[i];
  return std::sqrt((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

bool ClipByNorm(double norm, double max_norm, std::span<float> gradient) {
  if (max_norm <= 0 || norm <= max_norm) return false;
  const auto scale = static_cast<float>(max_norm / norm);
  for (float& g : gradient) g *= scale;
  return true;
}

}  // namespace rollcall
