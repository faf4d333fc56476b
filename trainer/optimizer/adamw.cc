#include "trainer/optimizer/adamw.h"

#include <cmath>
#include <utility>

#include "services/base/status/status.h"

namespace rollcall {

AdamW::AdamW(const AdamWOptions& options, size_t num_parameters)
    : options_(options), first_(num_parameters, 0.0F), second_(num_parameters, 0.0F) {}

void AdamW::Update(double learning_rate, std::span<const float> gradient,
                   std::span<float> parameters) {
  ROLLCALL_CHECK(gradient.size() == first_.size() && parameters.size() == first_.size());
  ++num_updates_;
  const auto t = static_cast<double>(num_updates_);
  const auto beta2 = static_cast<float>(options_.beta2);
  const auto one_minus_beta1 = static_cast<float>(1.0 - options_.beta1);
  const auto one_minus_beta2 = static_cast<float>(1.0 - options_.beta2);
  const auto decay = static_cast<float>(1.0 - learning_rate * options_.weight_decay);
  const auto step_size = static_cast<float>(learning_rate / (1.0 - std::pow(options_.beta1, t)));
  const auto root_correction = static_cast<float>(std::sqrt(1.0 - std::pow(options_.beta2, t)));
  const auto epsilon = static_cast<float>(options_.epsilon);
  const float* g = gradient.data();
  float* p = parameters.data();
  float* m = first_.data();
  float* v = second_.data();
  const size_t n = first_.size();
  for (size_t i = 0; i < n; ++i) {
    m[i] += one_minus_beta1 * (g[i] - m[i]);
    v[i] = beta2 * v[i] + one_minus_beta2 * g[i] * g[i];
    p[i] = p[i] * decay - step_size * (m[i] / (std::sqrt(v[i]) / root_correction + epsilon));
  }
}

void AdamW::Restore(int64_t num_updates, std::vector<float> first, std::vector<float> second) {
  ROLLCALL_CHECK(first.size() == first_.size() && second.size() == second_.size());
  num_updates_ = num_updates;
  first_ = std::move(first);
  second_ = std::move(second);
}

}  // namespace rollcall
