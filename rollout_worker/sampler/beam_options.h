// What a request says of a beam search. Plain data.
#pragma once

#include <cstdint>

namespace rollcall {

inline constexpr int32_t kMaxBeams = 64;

struct BeamOptions {
  int32_t num_beams = 1;        // [1, kMaxBeams]
  double length_penalty = 1.0;  // scores are divided by length to the power of it; [-10, 10]
  // When enough beams ended:
  //   kHeuristic  stop when the best live beam, ended now, would not be better than the worst one
  //   kAtOnce     stop as soon as num_beams have ended
  //   kNever      stop when no live beam can become better, however long it grows
  enum class EarlyStopping { kHeuristic, kAtOnce, kNever };
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
};

}  // namespace rollcall
