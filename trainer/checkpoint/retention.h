// Names of checkpoints and how many are kept.
#pragma once

#include <cstdint>
#include <string>

#include "services/base/status/status.h"

namespace rollcall {

// run_dir/checkpoints/step_<n>
std::string CheckpointDirectory(const std::string& run_dir, int64_t step);

// Removes checkpoints before the newest `keep_last` of those up to `step`, and what interrupted
// writes left behind. Later ones (of an attempt that was fenced) are left alone.
Status RemoveOldCheckpoints(const std::string& run_dir, int64_t step, int keep_last);

}  // namespace rollcall
