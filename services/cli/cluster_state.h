// The local cluster as `rollcall up` writes it down: state_dir/cluster.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "services/base/status/status.h"

namespace rollcall {

struct ClusterProcess {
  std::string name;  // "rollout-0"
  std::string role;  // "coordinator", "rollout", "reward", "learner"
  pid_t pid = 0;
  // Of the process, in clock ticks since boot: a process id alone may have been given to another.
  uint64_t start_ticks = 0;
  std::string address;
  std::string metrics_address;
  std::string state;  // "starting", "running", "restarting", "failed"
  int restarts = 0;
  std::string log_file;
};

struct ClusterState {
  pid_t supervisor_pid = 0;
  uint64_t supervisor_start_ticks = 0;
  std::string coordinator;  // host:port
  std::vector<ClusterProcess> processes;
};

std::string ClusterStatePath(const std::string& state_dir);
std::string ClusterStateToJson(const ClusterState& state);
// kDataLoss names the file and what is wrong with it.
StatusOr<ClusterState> ParseClusterState(const std::string& json, const std::string& origin);
// kNotFound when no cluster was started there.
StatusOr<ClusterState> LoadClusterState(const std::string& state_dir);
Status SaveClusterState(const std::string& state_dir, const ClusterState& state);

// Start time of a live process, 0 when there is none (a zombie is none).
uint64_t ProcessStartTicks(pid_t pid);
// The one letter of /proc/PID/stat, e.g. 'T' for stopped; 0 when there is none.
char ProcessStateLetter(pid_t pid);
bool IsAlive(pid_t pid, uint64_t start_ticks);

// Held by a supervisor for its whole life, so that there is at most one in a state directory. Goes
// with the process, whatever ends it.
class ClusterLock {
 public:
  // Null when another process holds it.
  static StatusOr<std::unique_ptr<ClusterLock>> TryAcquire(const std::string& state_dir);
  ~ClusterLock();
  ClusterLock(const ClusterLock&) = delete;
  ClusterLock& operator=(const ClusterLock&) = delete;

 private:
  explicit ClusterLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace rollcall
