// The worker without a coordinator: one model directory behind HTTP and gRPC.
#pragma once

#include "absl/time/time.h"
#include "rollout_worker/engine/engine.h"
#include "rollout_worker/serving_flags.h"
#include "services/base/status/status.h"
#include "services/common/daemon/daemon.h"

namespace rollcall {

// Serves until the daemon stops, then lets running requests end for `drain`.
Status RunStandalone(const DaemonFlags& daemon_flags, const ServingFlags& flags,
                     const EngineOptions& engine, absl::Duration drain, Daemon& daemon);

}  // namespace rollcall
