// Shared by `plan` and `submit --dry-run`.
#pragma once

#include "rollcall/v1/job.pb.h"
#include "services/cli/context.h"

namespace rollcall {

// Prints the batch arithmetic, the memory plan and the resolved job.
Status PrintPlan(const Context& context, const v1::JobSpec& spec);

// LoadJobFile, with a heading over several problems.
StatusOr<v1::JobSpec> LoadJob(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace rollcall
