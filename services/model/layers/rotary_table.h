// Cosines and sines of the rotary angles, computed in double once per position.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "services/base/sync/mutex.h"
#include "services/model/config/rope.h"
#include "services/model/tensor.h"

namespace rollcall {

// Thread-safe. Grows by doubling; an entry never depends on when it was computed.
class RotaryTable {
 public:
  explicit RotaryTable(RopeFrequencies frequencies) : frequencies_(std::move(frequencies)) {}
  // A finished table, wherever it lies; it cannot grow.
  explicit RotaryTable(at::Tensor table_PR) : table_PR_(std::move(table_PR)) {}

  // float32 [P, R] with P >= num_positions; row p is R/2 cosines, then R/2 sines, R the elements of
  // a head that turn.
  at::Tensor Covering(int64_t num_positions) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const RopeFrequencies frequencies_;
  Mutex mu_;
  at::Tensor table_PR_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
