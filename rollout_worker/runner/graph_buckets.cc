#include "rollout_worker/runner/graph_buckets.h"

#include <algorithm>

namespace rollcall {

int64_t GraphSequences(int64_t n) {
  int64_t bucket = 1;
  while (bucket < n) {
    const int64_t between = bucket + bucket / 2;
    if (bucket >= 16 && between >= n) return between;
    bucket *= 2;
  }
  return bucket;
}

int64_t GraphKeys(int64_t num_keys, int64_t max_positions) {
  int64_t bound = 512;
  while (bound < num_keys) bound *= 2;
  return std::max(num_keys, std::min(bound, max_positions));
}

}  // namespace rollcall
