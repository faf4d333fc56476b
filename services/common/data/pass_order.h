// The order in which rows are used.
#pragma once

#include <cstdint>
#include <vector>

namespace rollcall {

// Order of row indices in pass number `pass` over num_rows rows: a permutation that (seed, pass)
// fix; the identity without shuffle.
std::vector<int64_t> PassOrder(uint64_t seed, int64_t pass, int64_t num_rows, bool shuffle);

}  // namespace rollcall
