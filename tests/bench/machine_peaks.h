// What the machine can do at most, measured: the roof of a roofline.
#pragma once

#include <cstdint>

#include "services/base/runtime/thread_team.h"

namespace rollcall {

struct MachinePeaks {
  double read_bytes_per_s = 0;  // of a buffer far larger than the caches, all threads together
  double fma_flop_per_s = 0;    // float32 fused multiply-add, all threads together
  double bf16_flop_per_s = 0;   // bfloat16 dot product; 0 where the machine has none
};

// Takes about a second.
MachinePeaks MeasurePeaks(ThreadTeam& team);

// Bytes per second of reading `size_bytes` again and again, every thread an own part; zero where
// MeasurePeaks measures nothing.
double MeasureReading(ThreadTeam& team, int64_t size_bytes);

}  // namespace rollcall
