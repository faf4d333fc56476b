#include "services/model/layers/rotary_table.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>

#include "services/base/status/status.h"

namespace rollcall {

at::Tensor RotaryTable::Covering(int64_t num_positions) {
  MutexLock lock(mu_);
  const int64_t have = table_PR_.defined() ? table_PR_.size(0) : 0;
  if (have >= num_positions) return table_PR_;
  ROLLCALL_CHECK(!frequencies_.inverse.empty(), "a finished table of cosines is too short");
  const int64_t size = std::max<int64_t>({num_positions, 2 * have, 256});
  const auto half = static_cast<int64_t>(frequencies_.inverse.size());
  at::Tensor table_PR = at::empty({size, 2 * half}, at::kFloat);
  float* out = table_PR.mutable_data_ptr<float>();
  for (int64_t position = 0; position < size; ++position, out += 2 * half) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(position) * frequencies_.inverse[static_cast<size_t>(i)];
      out[i] = static_cast<float>(std::cos(angle) * frequencies_.scale);
      out[half + i] = static_cast<float>(std::sin(angle) * frequencies_.scale);
    }
  }
  // Calls that hold the old table keep it alive.
  table_PR_ = table_PR;
  return table_PR_;
}

}  // namespace rollcall
