// Durations as job files spell them: "250ms", "30s", "5m", "2h", "1h30m".
#pragma once

#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "services/base/status/status.h"

namespace rollcall {

// A sum of whole or decimal numbers with a unit each; millisecond resolution, at most 30 days.
// kInvalidArgument says what a duration looks like.
StatusOr<absl::Duration> ParseDurationText(std::string_view text);

// In the largest units that are exact: 90 s is "1m30s".
std::string DurationText(absl::Duration duration);

}  // namespace rollcall
