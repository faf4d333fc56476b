#include "rollout_worker/scheduler/freeness.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace rollcall {

double Freeness(const EngineLoad& load, const Headroom& headroom) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (load.is_terminating) return -kInfinity;
  if (load.running.empty() && load.num_waiting == 0) return kInfinity;
  double usage = load.head_demand_blocks;
  std::map<int32_t, bool> seen;
  for (const RunningLoad& sequence : load.running) {
    usage += sequence.num_blocks;
    // headroom / n for each of n sequences is the headroom once.
    const auto reserve = headroom.find(sequence.priority);
    if (reserve != headroom.end() && !std::exchange(seen[sequence.priority], true)) {
      usage += reserve->second;
    }
  }
  const size_t batch = std::max<size_t>(1, load.running.size());
  return (load.num_blocks - usage) / static_cast<double>(batch);
}

}  // namespace rollcall
