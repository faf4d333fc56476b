// What the scheduler schedules: tokens plus a block table.
//
//   waiting --admitted--> (swapping in -->) running --finished--> gone
//      ^--------- preempted ------------------'
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "rollout_worker/kv_cache/block_table.h"
#include "rollout_worker/kv_cache/swap_space.h"
#include "rollout_worker/scheduler/fair_share.h"

namespace rollcall {

// A step computes some of the known tokens that are not in the KV cache yet; when it reaches the
// last one, its logits give the next token. Prefill, decoding and recomputation after a preemption
// are the same thing.
struct Sequence {
  // Order of arrival, unique: smaller came first.
  uint64_t arrival = 0;
  // Smaller runs first, whenever it came.
  int32_t priority = 0;
  AccountId account = 0;
  ModelId model = 0;
  // Prompt and sampled tokens.
  std::vector<int32_t> tokens;
  int32_t num_prompt = 0;
  // Bound of num_known.
  int32_t max_tokens = 0;
  // First tokens whose keys and values are in `blocks`.
  int32_t num_computed = 0;
  // First tokens that the account has paid for.
  int32_t num_booked = 0;
  // Siblings that will fork from this sequence when its prompt is computed; room is kept for them.
  int32_t num_forks = 0;
  // All tokens are computed, none is taken from the prefix cache.
  bool skips_prefix_cache = false;
  // The blocks hold keys and values of weights before `model`: nobody else may find them.
  bool has_stale_blocks = false;
  // Tokens that the KV memory keeps of a sequence that forgets (0: all), and whether it does so
  // already: while the prompt is computed it is there as a whole.
  int32_t kv_budget = 0;
  bool is_compact = false;
  // num_computed when it was swapped out.
  int32_t num_swapped = 0;
  BlockTable blocks;
  // How often the blocks were given up: what was read from them before holds while it is the same.
  uint64_t epoch = 0;
  HostCopy host;
  // Not null: the blocks are being filled from the host copy, the sequence cannot run yet. After
  // the blocks, because it must end before they go.
  std::unique_ptr<SwapTransfer> transfer;

  // Places in the KV memory of its first num_tokens tokens.
  int32_t NumSlots(int32_t num_tokens) const {
    return kv_budget > 0 && is_compact ? std::min(num_tokens, kv_budget + 1) : num_tokens;
  }
  // Places that it needs to run up to its last known token.
  int32_t NumSlotsWanted() const {
    if (kv_budget == 0) return num_known();
    return is_compact ? NumSlots(num_known()) : num_prompt;
  }

  int32_t num_known() const { return static_cast<int32_t>(tokens.size()); }
};

}  // namespace rollcall
