#include "rollout_worker/sampler/truncation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "services/model/kernels/cpu_kernels.h"

namespace rollcall {
namespace {

// So few candidates are sorted.
constexpr int64_t kFewCandidates = 128;
constexpr int kMaxBisections = 40;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kFarthest = 16.0F;  // a mass below 1e-7 of the largest

void Select(std::span<const float> logits, float bound, std::vector<int32_t>* places) {
  places->resize(logits.size());
  places->resize(static_cast<size_t>(BestCpuKernels().select_at_least(
      logits.data(), static_cast<int64_t>(logits.size()), bound, places->data())));
}

}  // namespace

template <typename Reached>
void Truncation::KeepFirst(std::span<const float> logits, std::span<const float> masses,
                           float max_logit, const Reached& reached) {
  const CpuKernels& kernels = BestCpuKernels();
  const auto width = static_cast<int64_t>(logits.size());
  // The bound lies in [low, high): what is at least `low` suffices, what is at least `high` does
  // not.
  float low = -kInfinity;
  float high = std::nextafter(max_logit, kInfinity);
  int64_t num_low = width;
  MassAtLeast above_high;
  float distance = 2.0F;
  for (int i = 0; i < kMaxBisections && num_low - above_high.count > kFewCandidates; ++i) {
    // Down from the largest in growing steps, until there is an interval to halve.
    const float middle = low == -kInfinity ? max_logit - distance : low + (high - low) / 2;
    distance *= 2;
    if (!(middle > low && middle < high)) break;
    const MassAtLeast above = kernels.mass_at_least(logits.data(), masses.data(), width, middle);
    if (reached(above.count, above.mass)) {
      low = middle;
      num_low = above.count;
    } else {
      high = middle;
      above_high = above;
    }
  }
  Select(logits, low, &kept_);
  candidates_.clear();
  for (const int32_t place : kept_) {
    if (logits[place] < high) candidates_.push_back(place);
  }
  const auto before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (!std::is_sorted(candidates_.begin(), candidates_.end(), before)) {
    std::sort(candidates_.begin(), candidates_.end(), before);
  }
  MassAtLeast taken = above_high;
  size_t num_taken = 0;
  while (num_taken < candidates_.size() && !reached(taken.count, taken.mass)) {
    taken.mass += static_cast<double>(masses[candidates_[num_taken]]);
    ++taken.count;
    ++num_taken;
  }
  if (num_taken == candidates_.size()) return;
  const int32_t first_dropped = candidates_[num_taken];
  std::erase_if(
      kept_, [&](int32_t place) { return logits[place] < high && !before(place, first_dropped); });
}

std::span<const int32_t> Truncation::First(std::span<const float> logits, float max_logit,
                                           int64_t count) {
  // Masses do not matter; the logits stand in for them.
  KeepFirst(logits, logits, max_logit, [count](int64_t n, double) { return n >= count; });
  return kept_;
}

double Truncation::GatherOuter(std::span<const float> logits, float inverse_temperature,
                               float max_scaled) {
  const CpuKernels& kernels = BestCpuKernels();
  const auto width = static_cast<int64_t>(outer_.size());
  logits_.resize(outer_.size());
  masses_.resize(outer_.size());
  for (size_t i = 0; i < outer_.size(); ++i) logits_[i] = logits[outer_[i]];
  kernels.masses(logits_.data(), width, inverse_temperature, max_scaled, masses_.data());
  return kernels.mass_at_least(logits_.data(), masses_.data(), width, -kInfinity).mass;
}

void Truncation::KeepTopP(std::span<const float> logits, const TruncationRow& row,
                          const SamplingLaw& law, bool after_top_k) {
  double enough = law.top_p * row.total_mass;
  if (after_top_k) {
    outer_.swap(kept_);
    enough = law.top_p * GatherOuter(logits, row.inverse_temperature, row.sums.stats.max);
  } else {
    // So far below the largest, in units of the exponent, lies what might be kept; the rest of a
    // large vocabulary is looked at only where that is too little.
    for (float distance = 4.0F;; distance *= 2) {
      const float bound = distance > kFarthest
                              ? -kInfinity
                              : row.sums.max_logit - distance / row.inverse_temperature;
      Select(logits, bound, &outer_);
      const double mass = GatherOuter(logits, row.inverse_temperature, row.sums.stats.max);
      if (mass >= enough || distance > kFarthest) break;
    }
  }
  KeepFirst(logits_, masses_, row.sums.max_logit,
            [enough](int64_t, double mass) { return mass >= enough; });
  for (int32_t& place : kept_) place = outer_[place];
}

std::span<const int32_t> Truncation::Apply(std::span<const float> logits, const TruncationRow& row,
                                           const SamplingLaw& law) {
  // The lowest logit that min_p keeps. Rounding must not lift it above the largest.
  float lowest = -kInfinity;
  if (law.min_p > 0) {
    const double scaled = static_cast<double>(row.sums.stats.max) + std::log(law.min_p);
    lowest = std::min(row.sums.max_logit,
                      static_cast<float>(scaled / static_cast<double>(row.inverse_temperature)));
  }
  const bool cuts_k = law.top_k > 0 && static_cast<size_t>(law.top_k) < logits.size();
  if (!cuts_k && law.top_p >= 1.0) {
    Select(logits, lowest, &kept_);
    return kept_;
  }
  if (cuts_k) First(logits, row.sums.max_logit, law.top_k);
  if (law.top_p < 1.0) KeepTopP(logits, row, law, cuts_k);
  std::erase_if(kept_, [&](int32_t place) { return logits[place] < lowest; });
  return kept_;
}

}  // namespace rollcall
