// A running sequence moves to another engine without stopping for longer than its last blocks
// take. What travels is this; blocks are read and written by number.
//
//   source                                            destination
//   Settled, ReadBlocks         (while it runs) ---> Reserve, WriteReserved
//   ... again, until little is left ...
//   Detach: it stops; ReadBlocks of the rest     ---> GrowReservation, WriteReserved
//   state                                        ---> Adopt: it runs there
//   Release: its blocks are free                 <--- tokens as they come, and the end
//   or, at any point before Adopt answered: Attach, and it goes on as if nothing had been.
//   Or, when the destination is lost after that: Reclaim, and it goes on from the tokens that came
//   back, computed again.
//
// The source stays the owner of the sample: it reports the tokens and the completion, so whoever
// waits for them notices nothing, and no token can be reported twice.
// Source: Llumnix, arXiv 2406.03243 (live migration in stages); ownership by the source is ours.
#pragma once

#include <cstdint>

#include "rollout_worker/engine/types.h"

namespace rollcall {

struct SequenceState {
  // One sample: its stream key, and in `started` what was sampled so far. Without the watcher,
  // which the destination makes anew and feeds with these tokens.
  GroupRequest request;
  int64_t policy_version = 0;
  // First tokens whose keys and values travelled.
  int32_t num_computed = 0;
};

// A sequence that could be moved now.
struct MovableSequence {
  uint64_t group_id = 0;
  int32_t index = 0;
  int32_t priority = 0;
  int32_t num_tokens = 0;
  int32_t num_blocks = 0;
};

// Blocks of a running sequence whose content does not change any more, as long as its epoch is the
// same: a preemption or a switch of weights begins another one.
struct SettledBlocks {
  int32_t num_blocks = 0;
  uint64_t epoch = 0;
};

// Blocks at the destination that wait for a sequence.
using ReservationId = uint64_t;

}  // namespace rollcall
