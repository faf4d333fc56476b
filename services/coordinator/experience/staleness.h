// The staleness bound. The sample of iteration i trains step i + 1, which starts from version i:
// its staleness is i minus the oldest version among its tokens.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rollcall/v1/sample.pb.h"

namespace rollcall::coordinator {

// Oldest version that may make tokens for an iteration; its dispatch waits for it.
inline int64_t OldestAllowedVersion(int64_t iteration, int64_t max_staleness) {
  return std::max<int64_t>(0, iteration - max_staleness);
}

// Oldest policy version of the sampled tokens; -1 when the policy sampled none.
inline int64_t OldestVersion(const v1::Trajectory& trajectory) {
  int64_t oldest = -1;
  for (const v1::Segment& segment : trajectory.segments()) {
    if (segment.kind() != v1::SEGMENT_KIND_POLICY) continue;
    if (oldest < 0 || segment.policy_version() < oldest) oldest = segment.policy_version();
  }
  return oldest;
}

// 0 when the policy sampled no token.
inline int64_t Staleness(const v1::Trajectory& trajectory) {
  const int64_t oldest = OldestVersion(trajectory);
  return oldest < 0 ? 0 : trajectory.key().iteration() - oldest;
}

}  // namespace rollcall::coordinator
