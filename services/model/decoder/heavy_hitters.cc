#include "services/model/decoder/heavy_hitters.h"

#include <algorithm>

#include "services/base/status/status.h"

namespace rollcall {

HeavyHitters::HeavyHitters(const HeavyHitterOptions& options, int64_t num_layers,
                           int64_t num_kv_heads, int32_t num_prompt)
    : options_(options),
      num_layers_(num_layers),
      num_kv_heads_(num_kv_heads),
      num_prompt_(num_prompt),
      capacity_(std::max(num_prompt, options.budget() + 1)),
      // A prompt within the budget is kept whole: its slots are its positions.
      is_compact_(num_prompt <= options.budget()) {
  ROLLCALL_CHECK(options.num_heavy > 0 && options.num_recent > 0,
                 "a budget has heavy and recent tokens");
  const auto size = static_cast<size_t>(num_layers * num_kv_heads * capacity_);
  scores_.resize(size);
  positions_.resize(size);
  for (size_t i = 0; i < size; ++i) {
    positions_[i] = static_cast<int32_t>(i % static_cast<size_t>(capacity_));
  }
  free_slots_.assign(static_cast<size_t>(num_layers * num_kv_heads), num_prompt);
}

int32_t HeavyHitters::NumSlots(int32_t num_tokens) const {
  return is_compact_ ? std::min(num_tokens, budget() + 1) : num_tokens;
}

int32_t HeavyHitters::SlotOf(int64_t layer, int64_t head, int32_t position) {
  // As long as nothing had to go, slots are positions.
  const bool is_growing = num_prompt_ <= budget() && position <= budget();
  const int32_t slot =
      is_growing ? position : free_slots_[static_cast<size_t>(layer * num_kv_heads_ + head)];
  const size_t place = Index(layer, head) + static_cast<size_t>(slot);
  positions_[place] = position;
  scores_[place] = 0.0F;
  return slot;
}

void HeavyHitters::Evict(int64_t layer, int64_t head, int32_t position) {
  int32_t& free_slot = free_slots_[static_cast<size_t>(layer * num_kv_heads_ + head)];
  const int32_t num_used = NumSlots(position + 1);
  if (num_used <= budget()) {
    free_slot = num_used;
    return;
  }
  const float* score = &scores_[Index(layer, head)];
  const int32_t* places = &positions_[Index(layer, head)];
  const int32_t first_recent = position - options_.num_recent + 1;
  int32_t victim = -1;
  for (int32_t slot = 0; slot < num_used; ++slot) {
    if (places[slot] >= first_recent) continue;
    if (victim < 0 || score[slot] < score[victim] ||
        (score[slot] == score[victim] && places[slot] < places[victim])) {
      victim = slot;
    }
  }
  free_slot = victim;
}

std::vector<int32_t> HeavyHitters::CompactHead(int64_t layer, int64_t head) {
  float* score = &scores_[Index(layer, head)];
  const int32_t num_older = num_prompt_ - options_.num_recent;
  std::vector<int32_t> kept(static_cast<size_t>(num_older));
  for (int32_t i = 0; i < num_older; ++i) kept[static_cast<size_t>(i)] = i;
  // Of equal scores the later one stays, as an eviction one by one would have it.
  std::nth_element(
      kept.begin(), kept.begin() + options_.num_heavy - 1, kept.end(),
      [score](int32_t a, int32_t b) { return score[a] != score[b] ? score[a] > score[b] : a > b; });
  kept.resize(static_cast<size_t>(options_.num_heavy));
  std::sort(kept.begin(), kept.end());
  for (int32_t i = num_older; i < num_prompt_; ++i) kept.push_back(i);
  int32_t* places = &positions_[Index(layer, head)];
  for (size_t slot = 0; slot < kept.size(); ++slot) {
    score[slot] = score[kept[slot]];
    places[slot] = kept[slot];
  }
  free_slots_[static_cast<size_t>(layer * num_kv_heads_ + head)] = budget();
  return kept;
}

void HeavyHitters::FinishCompaction() {
  const int64_t capacity = budget() + 1;
  const int64_t num_heads = num_layers_ * num_kv_heads_;
  for (int64_t head = 0; head < num_heads; ++head) {
    std::copy_n(scores_.begin() + head * capacity_, capacity, scores_.begin() + head * capacity);
    std::copy_n(positions_.begin() + head * capacity_, capacity,
                positions_.begin() + head * capacity);
  }
  scores_.resize(static_cast<size_t>(num_heads * capacity));
  scores_.shrink_to_fit();
  positions_.resize(static_cast<size_t>(num_heads * capacity));
  positions_.shrink_to_fit();
  capacity_ = capacity;
  is_compact_ = true;
}

}  // namespace rollcall
