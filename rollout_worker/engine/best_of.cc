#include "rollout_worker/engine/best_of.h"

#include <algorithm>
#include <numeric>

namespace rollcall {

std::vector<size_t> BestOf(std::span<const CompletedSample> samples, size_t count) {
  std::vector<double> sums(samples.size());
  std::vector<size_t> places;
  for (size_t i = 0; i < samples.size(); ++i) {
    const std::vector<float>& logprobs = samples[i].behavior_logprobs;
    sums[i] = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
    if (samples[i].status.ok()) places.push_back(i);
  }
  std::stable_sort(places.begin(), places.end(),
                   [&sums](size_t a, size_t b) { return sums[a] > sums[b]; });
  if (places.size() > count) places.resize(count);
  return places;
}

}  // namespace rollcall
