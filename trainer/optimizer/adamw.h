// AdamW over one flat parameter arena, with the numbers of torch.optim.AdamW.
//   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
// Source: Loshchilov and Hutter 2019, arXiv 1711.05101.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace rollcall {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;  // on every parameter
};

// Moments and update count: what a checkpoint keeps. Not thread-safe.
class AdamW {
 public:
  AdamW(const AdamWOptions& options, size_t num_parameters);

  // One update. Both spans have num_parameters entries. Element by element in a fixed order, so
  // equal inputs give equal bits.
  void Update(double learning_rate, std::span<const float> gradient, std::span<float> parameters);

  int64_t num_updates() const { return num_updates_; }
  std::span<const float> first_moment() const { return first_; }
  std::span<const float> second_moment() const { return second_; }
  // The state of a checkpoint; both vectors have num_parameters entries.
  void Restore(int64_t num_updates, std::vector<float> first, std::vector<float> second);

 private:
  AdamWOptions options_;
  int64_t num_updates_ = 0;
  std::vector<float> first_;
  std::vector<float> second_;
};

}  // namespace rollcall
