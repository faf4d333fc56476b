// Best of n: which of a group's completions to return.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "rollout_worker/engine/types.h"

namespace rollcall {

// Places of the `count` samples whose tokens have the largest sum of behaviour log-probabilities,
// best first; of equals the lower place. Samples that failed are left out. O(n log n + tokens).
std::vector<size_t> BestOf(std::span<const CompletedSample> samples, size_t count);

}  // namespace rollcall
