// From a lease to what the engine takes, and from what it sampled to what the coordinator gets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollcall/v1/experience.pb.h"
#include "rollout_worker/engine/types.h"
#include "rollout_worker/policy_loader.h"
#include "services/base/status/status.h"

namespace rollcall {

// Samples that the coordinator leased to this worker, and what became of them.
struct LeasedSamples {
  v1::PromptLease proto;
  std::string worker_id;
  absl::Time received;
  absl::Time deadline;
  absl::Time finished;
  // By place in sample_indices; empty optional: not known.
  std::vector<std::optional<CompletedSample>> samples;
  // Why the samples that are missing could not be made; absent at a deadline, when the coordinator
  // gives them out again by itself.
  std::optional<WorkFailure> failure;
};

// Without the grammar.
GroupRequest ToGroupRequest(uint64_t group_id, ModelId model, const v1::PromptLease& lease);

// What the coordinator is told about an engine status: data failures are dropped and counted,
// infrastructure failures are tried again, here or elsewhere.
WorkFailure ToFailure(const Status& status);

// Samples that are neither known nor failed are left out.
v1::SubmitTrajectoriesRequest ToSubmitRequest(const LeasedSamples& lease);

}  // namespace rollcall
