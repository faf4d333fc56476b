// Cosines and sines of the rotary angles, computed in double once per position.
#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "services/base/sync/mutex.h"
#include "services/model/tensor.h"

namespace rollcall {

// Thread-safe. Grows by doubling; an entry never depends on when it was computed.
class RotaryTable {
 public:
  RotaryTable(int64_t head_dim, double theta) : head_dim_(head_dim), theta_(theta) {}

  // float32 [P, D] with P >= num_positions; row p is D/2 cosines, then D/2 sines.
  at::Tensor Covering(int64_t num_positions) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const int64_t head_dim_;
  const double theta_;
  Mutex mu_;
  at::Tensor table_PD_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
