// rollcall-coordinator: wires the real parts together.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "absl/time/time.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/base/sync/mutex.h"
#include "services/common/daemon/daemon.h"
#include "services/common/rpc/server.h"
#include "services/coordinator/coordinator.h"
#include "services/coordinator/coordinator_service.h"
#include "services/coordinator/job/run_files.h"
#include "services/coordinator/journal/journal.h"
#include "services/coordinator/journal/state_lock.h"

namespace rollcall::coordinator {
namespace {

constexpr absl::Duration kTickInterval = absl::Milliseconds(20);
constexpr absl::Duration kDrainTime = absl::Seconds(2);
constexpr int kFileThreads = 1;  // run files are written in order
constexpr int kSubmitThreads = 2;
constexpr size_t kFileQueue = 100'000;
constexpr size_t kSubmitQueue = 64;

struct Flags {
  DaemonFlags daemon;
  std::string state_dir;
  double heartbeat_interval_s = 0.5;
  double heartbeat_timeout_s = 5.0;
  std::string reschedule = "off";
  double migrate_out_below = 3.0;
  double migrate_in_above = 10.0;
};

// Calls fn until it goes out of scope.
class Ticker {
 public:
  explicit Ticker(std::function<void()> fn) : fn_(std::move(fn)), thread_([this] { Run(); }) {}
  ~Ticker() {
    {
      MutexLock lock(mu_);
      stopping_ = true;
      wake_.NotifyAll();
    }
    thread_.join();
  }

 private:
  void Run() {
    while (true) {
      {
        MutexLock lock(mu_);
        if (!stopping_) wake_.WaitFor(mu_, kTickInterval);
        if (stopping_) return;
      }
      fn_();
    }
  }

  const std::function<void()> fn_;
  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

Status Serve(const Flags& flags, Daemon& daemon) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto state_lock, StateLock::Acquire(flags.state_dir));
  const std::string journal_path = flags.state_dir + "/journal.db";
  ROLLCALL_ASSIGN_OR_RETURN(auto store,
                            SqliteStore::Open(journal_path, SqliteStore::Access::kOwner));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t incarnation, store->NextIncarnation());

  SystemClock clock;
  CoordinatorMetrics metrics(daemon.metrics());
  // Filled once the coordinator exists; the threads below are gone before it is.
  std::atomic<Coordinator*> coordinator_of_files{nullptr};
  auto file_executor = MakeThreadPool(kFileThreads, kFileQueue);
  auto files = MakeRunFiles(*file_executor, [&](JobNumber job, const Status& status) {
    Coordinator* coordinator = coordinator_of_files.load();
    if (coordinator != nullptr) coordinator->FailJob(job, Message(status));
  });
  auto submit_executor = MakeThreadPool(kSubmitThreads, kSubmitQueue);

  // Recovery has a connection of its own: the journal's threads own theirs.
  ROLLCALL_ASSIGN_OR_RETURN(auto recovery,
                            SqliteStore::Open(journal_path, SqliteStore::Access::kOwner));
  ROLLCALL_ASSIGN_OR_RETURN(std::unique_ptr<Journal> journal,
                            AsyncJournal::Start({.path = journal_path}, std::move(store),
                                                daemon.logger(), daemon.metrics()));
  CoreOptions options;
  options.incarnation = incarnation;
  options.registry.heartbeat_interval = absl::Seconds(flags.heartbeat_interval_s);
  options.registry.heartbeat_timeout = absl::Seconds(flags.heartbeat_timeout_s);
  options.rescheduler.mode = flags.reschedule == "balance"      ? Rescheduling::kBalance
                             : flags.reschedule == "defragment" ? Rescheduling::kDefragment
                                                                : Rescheduling::kOff;
  options.rescheduler.migrate_out_below = flags.migrate_out_below;
  options.rescheduler.migrate_in_above = flags.migrate_in_above;
  Coordinator coordinator(options, {daemon.logger(), metrics, *files}, *journal, clock);
  ROLLCALL_RETURN_IF_ERROR(coordinator.Recover(*recovery));
  recovery.reset();
  coordinator_of_files = &coordinator;

  auto services = CoordinatorServices::Create(coordinator, *submit_executor, daemon.metrics());
  ROLLCALL_ASSIGN_OR_RETURN(auto server, RpcServer::Start({.listen_address = flags.daemon.listen,
                                                           .tls = flags.daemon.tls},
                                                          services->services()));
  services->SetSelf({.name = flags.daemon.name.empty() ? "coordinator" : flags.daemon.name,
                     .host = HostName(),
                     .pid = getpid(),
                     .address = server->address(),
                     .metrics_address = daemon.metrics_address(),
                     .version = ROLLCALL_VERSION});
  {
    Ticker ticker([&] { coordinator.Tick(); });
    server->SetServing(true);
    ROLLCALL_RETURN_IF_ERROR(daemon.Ready(server->address()));
    daemon.logger().Info("coordinator serves address=" + server->address() + " state_dir=" +
                         flags.state_dir + " incarnation=" + std::to_string(incarnation));
    daemon.WaitForStop();
    daemon.logger().Info("coordinator stops");
    server->SetServing(false);
  }
  // Nothing new from here on: what was accepted is written, who waits is told.
  submit_executor.reset();
  coordinator.Stop();
  journal.reset();
  coordinator_of_files = nullptr;
  file_executor.reset();
  server->Shutdown(kDrainTime);
  return OkStatus();
}

}  // namespace
}  // namespace rollcall::coordinator

int main(int argc, char** argv) {
  using namespace rollcall;
  coordinator::Flags flags;
  CLI::App app("rollcall-coordinator: schedules jobs, leases work, keeps the journal");
  AddDaemonFlags(app, DaemonKind::kCoordinator, &flags.daemon);
  app.add_option("--state-dir", flags.state_dir, "Directory of the journal")->required();
  app.add_option("--heartbeat-interval", flags.heartbeat_interval_s,
                 "Seconds between the heartbeats of a process")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_option("--heartbeat-timeout", flags.heartbeat_timeout_s,
                 "Seconds without a heartbeat after which a process is dead")
      ->check(CLI::Range(0.05, 36000.0))
      ->capture_default_str();
  app.add_option("--reschedule", flags.reschedule,
                 "Live migration of running sequences between rollout workers")
      ->check(CLI::IsMember({"off", "balance", "defragment"}))
      ->capture_default_str();
  app.add_option("--migrate-out-below", flags.migrate_out_below,
                 "Freeness (decode steps) below which a worker gives sequences away")
      ->capture_default_str();
  app.add_option("--migrate-in-above", flags.migrate_in_above,
                 "Freeness above which a worker takes sequences")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  auto daemon = Daemon::Start(flags.daemon, "coordinator");
  if (!daemon.ok()) {
    std::fprintf(stderr, "rollcall-coordinator: %s\n", Message(daemon.status()).c_str());
    return 1;
  }
  const Status status = coordinator::Serve(flags, **daemon);
  if (!status.ok()) {
    (*daemon)->logger().Error(Message(status));
    return 1;
  }
  return 0;
}
