// Who is in the cluster. A process is a member from its registration until it leaves, is replaced
// by another registration under its name, or misses its heartbeats.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollcall/v1/fleet.pb.h"
#include "services/base/status/status.h"

namespace rollcall::coordinator {

struct RegistryOptions {
  absl::Duration heartbeat_interval = absl::Milliseconds(500);
  absl::Duration heartbeat_timeout = absl::Seconds(5);
  size_t max_workers = 100'000;
};

struct Worker {
  std::string id;
  v1::ProcessRole role = v1::PROCESS_ROLE_UNSPECIFIED;
  std::string name;
  std::string host;
  int64_t pid = 0;
  std::string address;
  std::string metrics_address;
  absl::Time last_heartbeat;
  // Last time that phase or progress moved, or that the process called for anything but a
  // heartbeat.
  absl::Time last_movement;
  std::string phase;
  std::string job_id;
  uint64_t progress = 0;
  // Numbers the ended jobs that this process was told of.
  size_t ended_jobs_seen = 0;
  // Of its last heartbeat.
  std::vector<v1::EngineLoad> loads;
  bool is_leaving = false;
  // What its next heartbeat is told to move.
  std::vector<v1::MigrationOrder> migrations;
};

// Not thread-safe.
class Registry {
 public:
  // `incarnation` numbers the coordinator's starts: ids of an earlier one are never reused.
  Registry(const RegistryOptions& options, int64_t incarnation)
      : options_(options), incarnation_(incarnation) {}

  // kInvalidArgument on a missing name or role.
  static Status CheckRequest(const v1::RegisterRequest& request);
  // A fresh member. `replaced` receives the id of the process that had the name, empty if none.
  // CheckRequest's errors, and kResourceExhausted when the cluster is full.
  StatusOr<Worker*> Register(const v1::RegisterRequest& request, absl::Time now,
                             std::string* replaced);
  // kAborted when the id is unknown: the process must register again.
  StatusOr<Worker*> Find(const std::string& worker_id);
  // Find, and the role must fit (kPermissionDenied otherwise). Counts as movement.
  StatusOr<Worker*> Call(const std::string& worker_id, v1::ProcessRole role, absl::Time now);
  StatusOr<Worker*> Heartbeat(const v1::HeartbeatRequest& request, absl::Time now);
  void Remove(const std::string& worker_id);

  // Members without a heartbeat for longer than the timeout, in order of name.
  std::vector<std::string> Silent(absl::Time now) const;

  // Moves the last signs of life of everybody: nobody could be heard for so long.
  void Forgive(absl::Duration away);

  size_t CountRole(v1::ProcessRole role) const;
  const std::map<std::string, Worker>& workers() const { return workers_; }
  const RegistryOptions& options() const { return options_; }

 private:
  const RegistryOptions options_;
  const int64_t incarnation_;
  int64_t next_ = 1;
  std::map<std::string, Worker> workers_;  // by id
  std::map<std::string, std::string> id_of_name_;
  std::map<v1::ProcessRole, size_t> num_of_role_;
};

}  // namespace rollcall::coordinator
