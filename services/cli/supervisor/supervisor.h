// Runs a cluster on this machine: starts its processes, starts again what dies, and stops them.
//
//   coordinator ready -> workers started with its address -> all ready -> cluster.json -> supervise
//   a process ends  -> back-off -> same name, same command (the coordinator: same port) -> ready
//   crash loop      -> that process stays down and is named; without a coordinator, or without any
//                      process of a role, the cluster stops with that error
//   SIGTERM, SIGINT -> workers drain, then the coordinator, then SIGKILL after the grace period
//
// One thread, no gRPC: it must be able to fork, and be the last thing that fails.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/cli/cluster_state.h"
#include "services/cli/supervisor/child_process.h"
#include "services/cli/supervisor/restart_policy.h"

namespace rollcall {

struct SupervisorOptions {
  std::string program_dir;  // folder of the daemons' binaries
  std::string state_dir;    // exists
  int port = 7700;          // of the coordinator; 0 picks a free one
  int num_rollout_workers = 2;
  int num_reward_servers = 1;
  int num_learners = 2;
  int threads = 1;  // OMP_NUM_THREADS and MKL_NUM_THREADS of each process
  std::string log_level = "info";
  absl::Duration start_timeout = absl::Seconds(60);
  absl::Duration grace = absl::Seconds(10);
  // A process that stands stopped (SIGSTOP) for this long is replaced.
  absl::Duration stopped_timeout = absl::Seconds(5);
  RestartOptions restart;
};

// What one process of the cluster is started with.
struct ProcessSpec {
  std::string name;
  std::string role;
  CommandLine command;
  std::string ready_file;
  std::string log_file;
};

// The coordinator; `port` is the one to listen at.
ProcessSpec CoordinatorSpec(const SupervisorOptions& options, int port);
// The others, which call the coordinator at `coordinator`.
std::vector<ProcessSpec> WorkerSpecs(const SupervisorOptions& options,
                                     const std::string& coordinator);

class Supervisor {
 public:
  // Everything must outlive the supervisor. The caller holds the ClusterLock, and has SIGTERM,
  // SIGINT and SIGCHLD blocked.
  Supervisor(const SupervisorOptions& options, Logger& logger);
  ~Supervisor();

  // Starts everything and waits until all are ready. On failure, or on SIGTERM meanwhile
  // (kCancelled), all is stopped again. kFailedPrecondition: the port is in use, a program is
  // missing, a process ended while starting (with its last words), or the deadline passed.
  Status Start();
  // Supervises until SIGTERM or SIGINT, then stops all. OK unless the cluster could not be kept up.
  Status Run();

  const ClusterState& state() const { return state_; }

 private:
  struct Process;

  Status StartProcess(Process& process);
  Status StartCoordinator();
  Status WaitUntilReady(absl::Time deadline);
  // True when the ready file is there; fills in the addresses.
  bool CheckReady(Process& process);
  Status HandleEnd(Process& process, const std::string& how);
  Status Tick();
  void ReplaceStopped(Process& process);
  // Waits for a signal or for output, at most until `until`. True when asked to stop.
  bool Wait(absl::Time until);
  void Stop();
  void StopGroup(const std::function<bool(const Process&)>& belongs, absl::Time deadline);
  void Save();

  const SupervisorOptions options_;
  Logger& logger_;
  int signal_fd_ = -1;
  int num_stop_requests_ = 0;  // the second one does not wait for anybody
  std::vector<std::unique_ptr<Process>> processes_;
  ClusterState state_;
};

}  // namespace rollcall
