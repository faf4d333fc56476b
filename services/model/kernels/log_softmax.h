// Log-softmax with a temperature over rows of logits, with the entropy. Each row is reduced over
// sixteen lanes (element v belongs to lane v mod 16) and then lane by lane in a fixed tree.
#pragma once

#include <cstdint>

namespace rollcall {

// log p[v] = (logits[v] * inverse_temperature - max) - log_sum.
struct LogSoftmaxStats {
  float max = 0;      // of logits * inverse_temperature
  float log_sum = 0;  // log of sum of exp(logits * inverse_temperature - max)
  float entropy = 0;
};

// What drawing from a row needs: its statistics and, for each kMassBlock logits, the sum of their
// masses exp(logits * inverse_temperature - max).
inline constexpr int64_t kMassBlock = 256;

struct MassSums {
  LogSoftmaxStats stats;
  float max_logit = 0;
  bool all_finite = false;  // of the logits; without it nothing else here means anything
};

struct MassAtLeast {
  int64_t count = 0;
  double mass = 0;
};

struct LogSoftmaxGradArgs {
  const float* logits = nullptr;  // [V]
  int64_t width = 0;
  float inverse_temperature = 1;
  LogSoftmaxStats stats;
  int64_t target = 0;
  float dlogprob = 0;  // of log p[target]
  float dentropy = 0;
  float* dlogits = nullptr;  // [V]; may be logits
};

}  // namespace rollcall
