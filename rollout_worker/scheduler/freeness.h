// How much room an engine has, as one number that expresses balance, head-of-line demand, priority
// and shutdown alike.
//
//   virtual usage of a sequence  running: its blocks, plus headroom(priority) shared by the running
//                                sequences of that priority;  first in line: the blocks that it
//                                needs to start;  others that wait: nothing
//   freeness = (blocks - sum of virtual usage) / running sequences
//
// About the decode steps that the batch can still take; negative when what waits does not fit,
// minus infinity when the engine shall be emptied, infinity when nothing runs or waits.
// Source: Llumnix, arXiv 2406.03243, section 4.4.
#pragma once

#include <cstdint>
#include <map>
#include <span>

namespace rollcall {

struct RunningLoad {
  int32_t num_blocks = 0;
  int32_t priority = 0;
};

struct EngineLoad {
  int32_t num_blocks = 0;
  std::span<const RunningLoad> running;
  int32_t num_waiting = 0;
  int32_t head_demand_blocks = 0;  // of the first in line; 0: nobody waits
  bool is_terminating = false;
};

// Blocks that shall stay free beside sequences of a priority; priorities that are absent have none.
using Headroom = std::map<int32_t, int32_t>;

double Freeness(const EngineLoad& load, const Headroom& headroom = {});

}  // namespace rollcall
