// Which worker shall hand running sequences to which: a pure policy over the loads that workers
// report. It never looks at single sequences; the source chooses which of them move.
//
// Sources are engines whose freeness is below `migrate_out_below`, destinations those above
// `migrate_in_above`; the fullest source goes with the emptiest destination, and so on. An engine
// that is leaving is a source whatever its load.
// Source: Llumnix, arXiv 2406.03243, section 4.4; llumnix/global_scheduler/migration_policy.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace rollcall::coordinator {

//   kOff         nobody moves
//   kBalance     a pair moves sequences only as long as that brings the two closer together
//   kDefragment  every pair moves: memory becomes free in one place for what waits there
enum class Rescheduling { kOff, kBalance, kDefragment };

struct ReschedulerOptions {
  Rescheduling mode = Rescheduling::kOff;
  double migrate_out_below = 3.0;  // decode steps of the batch
  double migrate_in_above = 10.0;
  int32_t sequences_per_order = 1;
};

struct EngineState {
  std::string worker_id;
  std::string address;
  std::string job_id;
  int64_t policy_version = 0;
  double freeness = 0;
  int32_t num_running = 0;
  int32_t num_used_blocks = 0;
  int32_t num_blocks = 0;
  bool is_leaving = false;
};

struct PlannedMigration {
  std::string source_worker_id;
  std::string job_id;
  std::string destination;  // address
  int32_t max_sequences = 0;
};

// At most one order for each engine, and no engine both gives and takes. O(n log n).
std::vector<PlannedMigration> PlanMigrations(const ReschedulerOptions& options,
                                             std::span<const EngineState> engines);

}  // namespace rollcall::coordinator
