// Membership of one process: registers with the coordinator, heartbeats from a thread of its own,
// registers again when it was forgotten or fenced (the coordinator restarted, or was silent).
//
//   connecting --Register--> member --ABORTED--> connecting (new worker id)
//                              '--drain--> draining
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/common/rpc/client.h"

namespace rollcall {

enum class Role { kRollout, kReward, kLearner };

// What one engine of a rollout worker carries; see fleet.proto.
struct EngineLoadReport {
  std::string job_id;
  int64_t policy_version = 0;
  double freeness = 0;
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int32_t num_used_blocks = 0;
  int32_t num_blocks = 0;
};

// Hand running sequences of a job to the worker at `destination`.
struct MigrationRequest {
  std::string job_id;
  std::string destination;
  int32_t max_sequences = 0;
};

struct FleetOptions {
  Role role = Role::kRollout;
  std::string name;     // stable, e.g. "rollout-0"
  std::string address;  // of the process's gRPC server
  std::string metrics_address;
  // What the coordinator orders; runs on the heartbeat thread. May be null.
  std::function<void(const std::vector<MigrationRequest>&)> on_migrations;
};

// Thread-safe.
class FleetClient {
 public:
  // Returns at once; registration happens in the background and is retried forever.
  // `on_jobs_ended` (may be null) runs on the heartbeat thread.
  static std::unique_ptr<FleetClient> Start(
      const FleetOptions& options, std::shared_ptr<grpc::Channel> coordinator, Logger& logger,
      std::function<void(const std::vector<std::string>&)> on_jobs_ended);
  virtual ~FleetClient() = default;  // Leaves the fleet, joins the thread.

  // The current worker id, waiting up to `timeout` for a registration; empty when there is none.
  virtual std::string worker_id(absl::Duration timeout) = 0;
  // Call when an RPC came back ABORTED: forces a new registration unless `worker_id` is already
  // not the current one.
  virtual void Invalidate(const std::string& worker_id) = 0;
  // What the process does now, sent with the next heartbeat. SetPhase and Progress move the
  // progress counter.
  virtual void SetPhase(const std::string& phase, const std::string& job_id) = 0;
  virtual void Progress() = 0;
  // Sent with every heartbeat from the next one on.
  virtual void SetLoads(std::vector<EngineLoadReport> loads) = 0;
  // The process shall end soon: what it runs had better be moved away.
  virtual void SetLeaving() = 0;
  // The coordinator asked this process to stop taking work.
  virtual bool draining() const = 0;
};

}  // namespace rollcall
