// What a trajectory must satisfy before the coordinator accepts it. Pure.
#pragma once

#include <cstdint>
#include <span>

#include "rollcall/v1/sample.pb.h"
#include "services/base/status/status.h"

namespace rollcall::coordinator {

struct TrajectoryLimits {
  std::span<const int32_t> prompt_token_ids;  // as leased
  int64_t max_new_tokens = 1;
  int64_t max_observation_tokens = 1 << 20;
  int64_t vocab_size = 0;
  // The law restricts the tokens: without kept sets the learner would apply another one.
  bool needs_kept_sets = false;
  // Versions that may have made the tokens, inclusive.
  int64_t min_version = 0;
  int64_t max_version = 0;
};

// kInvalidArgument says which token, length, version or kept set is wrong.
Status CheckTrajectory(const v1::Trajectory& trajectory, const TrajectoryLimits& limits);

}  // namespace rollcall::coordinator
