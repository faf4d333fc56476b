// The price of one fixed order of summation: our batch-invariant linear layer beside at::linear,
// which chooses its kernel by the number of rows.
#pragma once

#include <cstdint>

#include "services/base/status/status.h"
#include "services/model/config/precision.h"

namespace rollcall {

struct LinearCase {
  int64_t num_rows = 1;
  int64_t depth = 512;
  int64_t num_outputs = 1536;
  int32_t num_threads = 1;
  Precision precision = Precision::kFloat32;
};

// Prints GFLOP/s of both as one JSON object: in turns, the best of several rounds.
Status RunLinear(const LinearCase& shape);

}  // namespace rollcall
