// Following a job to its end.
#pragma once

#include <string>

#include "services/cli/context.h"

namespace rollcall {

// Shows the job until it ends: a screen that redraws itself on a terminal, a line a step elsewhere,
// JSON lines with --json. OK only when the job succeeded; otherwise a status that says how it
// ended. kUnavailable after `patience` without a coordinator.
Status WatchUntilEnd(const Context& context, JobClient& client, const std::string& job_id,
                     absl::Duration patience);

}  // namespace rollcall
