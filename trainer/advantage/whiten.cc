#include "trainer/advantage/whiten.h"

#include <array>
#include <cmath>

namespace rollcall {

StatusOr<Moments> GlobalMoments(std::span<const int64_t> token_starts,
                                std::span<const uint8_t> keep_S, std::span<const double> values_T,
                                const SumOverRanks& sum) {
  std::array<double, 2> first = {0, 0};
  for (size_t s = 0; s < keep_S.size(); ++s) {
    if (keep_S[s] == 0) continue;
    for (int64_t t = token_starts[s]; t < token_starts[s + 1]; ++t) {
      first[0] += 1;
      first[1] += values_T[t];
    }
  }
  ROLLCALL_RETURN_IF_ERROR(sum(first));
  Moments moments;
  moments.count = first[0];
  if (moments.count > 0) moments.mean = first[1] / moments.count;
  std::array<double, 1> second = {0};
  for (size_t s = 0; s < keep_S.size(); ++s) {
    if (keep_S[s] == 0) continue;
    for (int64_t t = token_starts[s]; t < token_starts[s + 1]; ++t) {
      const double d = values_T[t] - moments.mean;
      second[0] += d * d;
    }
  }
  ROLLCALL_RETURN_IF_ERROR(sum(second));
  if (moments.count > 1) moments.variance = second[0] / (moments.count - 1);
  return moments;
}

void Whiten(const Moments& moments, std::span<const int64_t> token_starts,
            std::span<const uint8_t> keep_S, double epsilon, std::span<double> values_T) {
  if (moments.count < 2) return;
  const double scale = 1.0 / std::sqrt(moments.variance + epsilon);
  for (size_t s = 0; s < keep_S.size(); ++s) {
    if (keep_S[s] == 0) continue;
    for (int64_t t = token_starts[s]; t < token_starts[s + 1]; ++t) {
      values_T[t] = (values_T[t] - moments.mean) * scale;
    }
  }
}

}  // namespace rollcall
