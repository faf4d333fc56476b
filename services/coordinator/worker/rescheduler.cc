#include "services/coordinator/worker/rescheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace rollcall::coordinator {
namespace {

double FreenessOf(int32_t num_blocks, double num_used, int32_t num_running) {
  if (num_running <= 0) return std::numeric_limits<double>::infinity();
  return (num_blocks - num_used) / num_running;
}

// Whether one average sequence of `source` at `destination` brings their freeness closer together
// without turning the difference around.
bool Balances(const EngineState& source, const EngineState& destination) {
  const double moved = static_cast<double>(source.num_used_blocks) / source.num_running;
  const double before = destination.freeness - source.freeness;
  const double source_after =
      FreenessOf(source.num_blocks, source.num_used_blocks - moved, source.num_running - 1);
  const double destination_after = FreenessOf(
      destination.num_blocks, destination.num_used_blocks + moved, destination.num_running + 1);
  if (std::isinf(source_after)) return false;  // its last one: the roles would change
  const double after = destination_after - source_after;
  return after >= 0 && after < before;
}

}  // namespace

std::vector<PlannedMigration> PlanMigrations(const ReschedulerOptions& options,
                                             std::span<const EngineState> engines) {
  std::vector<PlannedMigration> plan;
  if (options.mode == Rescheduling::kOff) return plan;
  // Sequences move between engines of the same weights.
  std::map<std::pair<std::string, int64_t>, std::vector<const EngineState*>> by_weights;
  for (const EngineState& engine : engines) {
    by_weights[{engine.job_id, engine.policy_version}].push_back(&engine);
  }
  for (const auto& [weights, group] : by_weights) {
    std::vector<const EngineState*> sources;
    std::vector<const EngineState*> destinations;
    for (const EngineState* engine : group) {
      const bool is_full = engine->is_leaving || engine->freeness < options.migrate_out_below;
      if (is_full && engine->num_running > 0) sources.push_back(engine);
      if (!is_full && engine->freeness > options.migrate_in_above) destinations.push_back(engine);
    }
    std::sort(sources.begin(), sources.end(), [](const EngineState* a, const EngineState* b) {
      if (a->is_leaving != b->is_leaving) return a->is_leaving;
      if (a->freeness != b->freeness) return a->freeness < b->freeness;
      return a->worker_id < b->worker_id;
    });
    std::sort(destinations.begin(), destinations.end(),
              [](const EngineState* a, const EngineState* b) {
                if (a->freeness != b->freeness) return a->freeness > b->freeness;
                return a->worker_id < b->worker_id;
              });
    const size_t num_pairs = std::min(sources.size(), destinations.size());
    for (size_t i = 0; i < num_pairs; ++i) {
      const EngineState& source = *sources[i];
      const EngineState& destination = *destinations[i];
      if (options.mode == Rescheduling::kBalance && !source.is_leaving &&
          !Balances(source, destination)) {
        continue;
      }
      plan.push_back(
          {.source_worker_id = source.worker_id,
           .job_id = source.job_id,
           .destination = destination.address,
           .max_sequences = source.is_leaving ? source.num_running : options.sequences_per_order});
    }
  }
  return plan;
}

}  // namespace rollcall::coordinator
