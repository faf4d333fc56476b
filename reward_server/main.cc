// rollcall-reward: the reward server.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/base/thread_annotations.h"
#include "reward_server/reward_service.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/daemon/daemon.h"
#include "services/common/fleet/fleet_client.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"

namespace rollcall {
namespace {

// Passes the end of jobs on while there is a service; the fleet client lives longer.
class EndedJobs {
 public:
  void SetService(RewardService* service) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    service_ = service;
  }
  void operator()(const std::vector<std::string>& job_ids) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (service_ != nullptr) service_->DropJobs(job_ids);
  }

 private:
  Mutex mu_;
  RewardService* service_ ABSL_GUARDED_BY(mu_) = nullptr;
};

struct Flags {
  DaemonFlags daemon;
  RewardOptions reward;
  int cache_mib = 64;
  double drain_seconds = 10;
};

Status Run(Flags flags) {
  ROLLCALL_ASSIGN_OR_RETURN(auto daemon, Daemon::Start(flags.daemon, "reward"));
  ROLLCALL_ASSIGN_OR_RETURN(auto coordinator,
                            MakeChannel(flags.daemon.coordinator, flags.daemon.tls));
  ROLLCALL_ASSIGN_OR_RETURN(
      auto server,
      RpcServer::Start({.listen_address = flags.daemon.listen, .tls = flags.daemon.tls}, {}));
  const SystemClock clock;
  EndedJobs ended_jobs;
  const auto fleet = FleetClient::Start({.role = Role::kReward,
                                         .name = flags.daemon.name,
                                         .address = server->address(),
                                         .metrics_address = daemon->metrics_address()},
                                        coordinator, daemon->logger(),
                                        [&](const auto& job_ids) { ended_jobs(job_ids); });
  flags.reward.scheduler.cache_bytes = static_cast<uint64_t>(flags.cache_mib) << 20;
  flags.reward.environment.tls = flags.daemon.tls;
  RewardService service(flags.reward, {.coordinator = coordinator,
                                       .fleet = *fleet,
                                       .metrics = daemon->metrics(),
                                       .logger = daemon->logger(),
                                       .clock = clock,
                                       .on_drain = [&] { daemon->RequestStop(); }});
  ended_jobs.SetService(&service);
  server->SetServing(true);
  const Status ready = daemon->Ready(server->address());
  if (ready.ok()) daemon->WaitForStop();
  server->SetServing(false);
  service.Drain(absl::Seconds(flags.drain_seconds));
  ended_jobs.SetService(nullptr);
  server->Shutdown(absl::Seconds(1));
  return ready;
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  rollcall::Flags flags;
  CLI::App app("Reward server of rollcall: scores trajectories.", "rollcall-reward");
  rollcall::AddDaemonFlags(app, rollcall::DaemonKind::kWorker, &flags.daemon);
  app.add_option("--max-in-flight", flags.reward.max_in_flight, "Score tasks held at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--local-threads", flags.reward.scheduler.local_threads,
                 "Threads that run verifiers")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--remote-threads", flags.reward.scheduler.remote_threads,
                 "Calls of remote scorers at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--cache-mib", flags.cache_mib, "Memory of the score cache, in MiB")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  app.add_option("--drain-seconds", flags.drain_seconds,
                 "Time that held work gets to finish after SIGTERM")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const rollcall::Status status = rollcall::Run(flags);
  if (!status.ok()) {
    std::cerr << "rollcall-reward: " << status.ToString() << "\n";
    return 1;
  }
  return 0;
}
