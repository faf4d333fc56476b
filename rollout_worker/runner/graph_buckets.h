// Which graphs of decode steps there are: a step of n sequences runs the smallest one that has
// room, padded.
#pragma once

#include <cstdint>

namespace rollcall {

// The smallest of 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, ... that is at least n; n >= 1. Padding
// is at most a third from 16 on.
int64_t GraphSequences(int64_t n);

// A bound for the keys of the longest sequence: the smallest of 512, 1024, 2048, ... that is at
// least num_keys, but not above max_positions.
int64_t GraphKeys(int64_t num_keys, int64_t max_positions);

}  // namespace rollcall
