#include "trainer/batch/minibatch.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "services/base/runtime/random.h"

namespace rollcall {

std::vector<std::vector<int64_t>> AssignMinibatches(const MinibatchOptions& options,
                                                    std::span<const int64_t> units_per_group) {
  // local[u] is the rank's own number of unit u, or -1.
  std::vector<int64_t> local;
  int64_t next_local = 0;
  for (size_t g = 0; g < units_per_group.size(); ++g) {
    const bool mine = static_cast<int64_t>(g) % options.world_size == options.rank;
    for (int64_t u = 0; u < units_per_group[g]; ++u) local.push_back(mine ? next_local++ : -1);
  }
  const auto total = static_cast<int64_t>(local.size());
  std::vector<int64_t> order(local.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.num_minibatches > 1) {
    constexpr uint64_t kMinibatchStream = 0x6d696e6962617463;  // "minibatc"
    const std::array<uint64_t, 4> words = {options.seed, kMinibatchStream,
                                           static_cast<uint64_t>(options.step),
                                           static_cast<uint64_t>(options.epoch)};
    CounterRandom random(MixKey(words));
    Shuffle(std::span<int64_t>(order), random);
  }
  std::vector<std::vector<int64_t>> minibatches(options.num_minibatches);
  for (int64_t m = 0; m < options.num_minibatches; ++m) {
    const int64_t begin = total * m / options.num_minibatches;
    const int64_t end = total * (m + 1) / options.num_minibatches;
    for (int64_t i = begin; i < end; ++i) {
      if (local[order[i]] >= 0) minibatches[m].push_back(local[order[i]]);
    }
    // The batch's own order keeps the sequences of a group together.
    std::sort(minibatches[m].begin(), minibatches[m].end());
  }
  return minibatches;
}

}  // namespace rollcall
