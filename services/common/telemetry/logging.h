// spdlog behind base's Logger.
#pragma once

#include <memory>
#include <string>

#include "services/base/log/log.h"
#include "services/base/status/status.h"

namespace rollcall {

struct LoggingOptions {
  std::string process;         // e.g. "rollout-0", on every line
  std::string file;            // appended to as well when not empty
  std::string level = "info";  // debug, info, warning, error
};

// Lines go to stderr: "2026-11-24T03:48:11.123Z info rollout-0 message". Rotates the file at
// 64 MiB, keeps 3.
StatusOr<std::unique_ptr<Logger>> MakeLogger(const LoggingOptions& options);

}  // namespace rollcall
