// Which units of the whole batch make which optimizer update. The answer depends on the batch and
// the seed alone, not on how the batch is spread over ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rollcall {

struct MinibatchOptions {
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t num_minibatches = 1;
  int rank = 0;
  int world_size = 1;
};

// Units are numbered over the whole batch, group by group; one permutation of the numbers, keyed by
// (seed, step, epoch), is cut into `num_minibatches` runs whose sizes differ by at most one. With
// one minibatch the order is that of the batch.
//   units_per_group  of the whole batch, all ranks
// Returns, for each minibatch, this rank's units, numbered in the order of its own groups.
std::vector<std::vector<int64_t>> AssignMinibatches(const MinibatchOptions& options,
                                                    std::span<const int64_t> units_per_group);

}  // namespace rollcall
