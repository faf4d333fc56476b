// Heavy-hitter eviction: a sequence keeps, for every layer and kv head by itself, the tokens that
// received the most attention so far and the most recent ones, and forgets the others. Its KV
// memory is constant.
//
//   prompt: received attention is added up, nothing is forgotten -> Compact (once, if it is longer)
//   decode: SlotOf(new token) -> attention over the kept ones and it -> Evict
//
// A new token is written into the slot that the last eviction left free. Keys carry their rotary
// position and attention knows no order, so slots are reused without moving anything. With grouped
// queries a score is the sum over the query heads of the group, because they share the key.
// Source: H2O, arXiv 2306.14048, algorithm 1; the original positions stay (its plain version).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rollcall {

// Both 0: nothing is evicted. Else both at least 1.
struct HeavyHitterOptions {
  int32_t num_heavy = 0;
  int32_t num_recent = 0;
  bool is_on() const { return num_heavy > 0; }
  int32_t budget() const { return num_heavy + num_recent; }
};

// What one sequence remembers of its slots. Layers and heads may be used from several threads, each
// pair from one at a time.
class HeavyHitters {
 public:
  HeavyHitters(const HeavyHitterOptions& options, int64_t num_layers, int64_t num_kv_heads,
               int32_t num_prompt);

  int32_t budget() const { return options_.budget(); }
  // Slots that hold a sequence of num_tokens tokens.
  int32_t NumSlots(int32_t num_tokens) const;
  // The prompt must be compacted before the next token.
  bool NeedsCompaction(int32_t num_tokens) const {
    return !is_compact_ && num_tokens == num_prompt_;
  }
  bool is_compact() const { return is_compact_; }

  // Attention that each slot received so far: float32 [capacity]; attention adds to it.
  float* scores(int64_t layer, int64_t head) { return &scores_[Index(layer, head)]; }
  // Distance between the scores of neighbouring heads.
  int64_t capacity() const { return capacity_; }

  // Where the token at `position` goes; its score starts at 0. Tokens come in order.
  int32_t SlotOf(int64_t layer, int64_t head, int32_t position);
  // After the attention of the token at `position`: the kept token of the smallest score that is
  // not recent leaves, the oldest one among equals, if there are more than the budget.
  void Evict(int64_t layer, int64_t head, int32_t position);

  // The prompt's positions that stay, ascending: the budget's heaviest ones and its recent ones.
  // Slot i holds the i-th of them from now on.
  std::vector<int32_t> CompactHead(int64_t layer, int64_t head);
  // After CompactHead of every head.
  void FinishCompaction();

  // Position of the token in a slot; for tests and for what travels.
  int32_t position(int64_t layer, int64_t head, int32_t slot) const {
    return positions_[Index(layer, head) + static_cast<size_t>(slot)];
  }

 private:
  size_t Index(int64_t layer, int64_t head) const {
    return static_cast<size_t>((layer * num_kv_heads_ + head) * capacity_);
  }

  const HeavyHitterOptions options_;
  const int64_t num_layers_;
  const int64_t num_kv_heads_;
  const int32_t num_prompt_;
  int64_t capacity_;  // slots of one head
  bool is_compact_ = false;
  std::vector<float> scores_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> free_slots_;  // of each head, once it is compact
};

}  // namespace rollcall
