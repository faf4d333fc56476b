#include "rollout_worker/kv_cache/block_table.h"

#include <utility>

namespace rollcall {

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  pool_ = std::exchange(other.pool_, nullptr);
  blocks_ = std::exchange(other.blocks_, {});
  last_node_ = std::exchange(other.last_node_, 0);
  num_indexed_ = std::exchange(other.num_indexed_, 0);
  is_indexed_ = std::exchange(other.is_indexed_, true);
  return *this;
}

void BlockTable::Clear() {
  while (!blocks_.empty()) {
    pool_->Release(blocks_.back());
    blocks_.pop_back();
  }
  last_node_ = 0;
  num_indexed_ = 0;
  is_indexed_ = true;
}

}  // namespace rollcall
