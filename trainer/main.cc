// rollcall-learner: one rank of a learner group.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/daemon/daemon.h"
#include "services/common/fleet/fleet_client.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"
#include "services/model/layers/tensor_memory.h"
#include "services/weight_sync/weight_store.h"
#include "trainer/learner/learner.h"
#include "trainer/learner_service.h"

namespace rollcall {
namespace {

constexpr absl::Duration kDrainPatience = absl::Seconds(20);
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

Status RunLearner(const DaemonFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::unique_ptr<Daemon> daemon, Daemon::Start(flags, "learner"));
  ConfigureLearnerThreads();
  RemoveStaleSharedMemory();
  RecycleTensorMemory();
  ROLLCALL_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> coordinator,
                            MakeChannel(flags.coordinator, flags.tls));
  const std::unique_ptr<WeightStore> weights = MakeWeightStore(daemon->logger());
  ROLLCALL_ASSIGN_OR_RETURN(
      const std::unique_ptr<RpcServer> server,
      RpcServer::Start({.listen_address = flags.listen, .tls = flags.tls}, {weights->service()}));
  weights->set_address(server->address());
  const SystemClock clock;

  // The heartbeat thread tells of ended jobs before the service is there and after it is gone.
  Mutex mu;
  LearnerService* listening = nullptr;
  const std::unique_ptr<FleetClient> fleet = FleetClient::Start(
      {.role = Role::kLearner,
       .name = flags.name,
       .address = server->address(),
       .metrics_address = daemon->metrics_address()},
      coordinator, daemon->logger(), [&](const std::vector<std::string>& job_ids) {
        MutexLock lock(mu);
        if (listening != nullptr) listening->DropJobs(job_ids);
      });
  AssignmentOptions options;
  options.interface_address = server->address().substr(0, server->address().rfind(':'));
  {
    LearnerService service(options, {.coordinator = coordinator,
                                     .fleet = *fleet,
                                     .weights = *weights,
                                     .metrics = daemon->metrics(),
                                     .logger = daemon->logger(),
                                     .clock = clock});
    const auto listen = [&](LearnerService* to) {
      MutexLock lock(mu);
      listening = to;
    };
    listen(&service);
    const Status ready = daemon->Ready(server->address());
    if (ready.ok()) daemon->WaitForStop();
    server->SetServing(false);
    service.Stop(ready.ok() ? kDrainPatience : absl::ZeroDuration());
    listen(nullptr);
    ROLLCALL_RETURN_IF_ERROR(ready);
  }
  server->Shutdown(kShutdownGrace);
  return OkStatus();
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  CLI::App app("One rank of a rollcall learner group.", "rollcall-learner");
  rollcall::DaemonFlags flags;
  rollcall::AddDaemonFlags(app, rollcall::DaemonKind::kWorker, &flags);
  CLI11_PARSE(app, argc, argv);
  if (flags.name.empty()) flags.name = "learner";
  const rollcall::Status status = rollcall::RunLearner(flags);
  if (status.ok()) return 0;
  std::cerr << "rollcall-learner: " << rollcall::Message(status) << "\n";
  return 1;
}
