// What the scheduler schedules: tokens plus a block table.
//
//   waiting --admitted--> running --finished--> gone
//      ^---- preempted ------'
#pragma once

#include <cstdint>
#include <vector>

#include "rollout_worker/kv_cache/block_table.h"

namespace rollcall {

// A step computes some of the known tokens that are not in the KV cache yet; when it reaches the
// last one, its logits give the next token. Prefill, decoding and recomputation after a preemption
// are the same thing.
struct Sequence {
  // Order of arrival, unique: smaller came first.
  uint64_t arrival = 0;
  ModelId model = 0;
  // Prompt and sampled tokens.
  std::vector<int32_t> tokens;
  int32_t num_prompt = 0;
  // First tokens whose keys and values are in `blocks`.
  int32_t num_computed = 0;
  // Siblings that will fork from this sequence when its prompt is computed; room is kept for them.
  int32_t num_forks = 0;
  BlockTable blocks;

  int32_t num_known() const { return static_cast<int32_t>(tokens.size()); }
};

}  // namespace rollcall
