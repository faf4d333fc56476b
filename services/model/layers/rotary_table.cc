#include "services/model/layers/rotary_table.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>

namespace rollcall {

at::Tensor RotaryTable::Covering(int64_t num_positions) {
  MutexLock lock(mu_);
  const int64_t have = table_PD_.defined() ? table_PD_.size(0) : 0;
  if (have >= num_positions) return table_PD_;
  const int64_t size = std::max<int64_t>({num_positions, 2 * have, 256});
  const int64_t half = head_dim_ / 2;
  at::Tensor table_PD = at::empty({size, head_dim_}, at::kFloat);
  float* out = table_PD.mutable_data_ptr<float>();
  for (int64_t position = 0; position < size; ++position, out += head_dim_) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency =
          std::pow(theta_, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim_));
      const double angle = static_cast<double>(position) * frequency;
      out[i] = static_cast<float>(std::cos(angle));
      out[half + i] = static_cast<float>(std::sin(angle));
    }
  }
  // Calls that hold the old table keep it alive.
  table_PD_ = table_PD;
  return table_PD_;
}

}  // namespace rollcall
