// rollcall-rollout: the rollout worker.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/base/thread_annotations.h"
#include "rollout_worker/migration/migration_service.h"
#include "rollout_worker/migration/migration_source.h"
#include "rollout_worker/rollout_service.h"
#include "rollout_worker/run_standalone.h"
#include "rollout_worker/runner/backend.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/serving/job_serving.h"
#include "rollout_worker/serving_flags.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/daemon/daemon.h"
#include "services/common/fleet/fleet_client.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"
#include "services/model/layers/tensor_memory.h"

namespace rollcall {
namespace {

// Passes the end of jobs on while there is a service; the fleet client lives longer.
class EndedJobs {
 public:
  void SetServices(RolloutService* service, JobServing* serving) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    service_ = service;
    serving_ = serving;
  }
  void operator()(const std::vector<std::string>& job_ids) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (service_ != nullptr) service_->DropJobs(job_ids);
    if (serving_ != nullptr) serving_->DropJobs(job_ids);
  }

 private:
  Mutex mu_;
  RolloutService* service_ ABSL_GUARDED_BY(mu_) = nullptr;
  JobServing* serving_ ABSL_GUARDED_BY(mu_) = nullptr;
};

// Both sides of live migration, beside the service whose sequences move.
class Migration {
 public:
  Migration(const TlsOptions& tls, Daemon& daemon, const Clock& clock)
      : metrics_(daemon.metrics()),
        logger_(daemon.logger()),
        source_({.tls = tls}, metrics_, logger_, clock),
        service_(
            {},
            [this](const std::string& job_id, int64_t version) -> StatusOr<ModelId> {
              MutexLock lock(mu_);
              if (rollout_ == nullptr) return Unavailable("this worker is not ready yet");
              return rollout_->FindLoaded(job_id, version);
            },
            metrics_, clock),
        orders_(MakeThreadPool(1, kMaxOrders)) {}

  grpc::Service* grpc_service() { return &service_; }
  EngineEvents events() { return service_.events(); }

  void Start(RolloutService& rollout) ABSL_LOCKS_EXCLUDED(mu_) {
    source_.SetLoop(&rollout.engine_loop());
    service_.SetLoop(&rollout.engine_loop());
    MutexLock lock(mu_);
    rollout_ = &rollout;
  }
  // Before the rollout service ends.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_) {
    source_.Stop();
    service_.Stop();
    MutexLock lock(mu_);
    rollout_ = nullptr;
  }

  // Heartbeats do not wait for engines. What finds the queue full is ordered again.
  void Order(const std::vector<MigrationRequest>& orders) {
    for (const MigrationRequest& order : orders) {
      const Status queued = orders_->Schedule([this, order] {
        const auto started =
            source_.MigrateOut(order.job_id, order.destination, order.max_sequences);
        if (!started.ok()) logger_.Warning("no migration: " + Message(started.status()));
      });
      if (!queued.ok()) logger_.Warning("a migration was not ordered: " + Message(queued));
    }
  }

 private:
  static constexpr size_t kMaxOrders = 64;
  MigrationMetrics metrics_;
  Logger& logger_;
  MigrationSource source_;
  Mutex mu_;
  RolloutService* rollout_ ABSL_GUARDED_BY(mu_) = nullptr;
  MigrationServiceImpl service_;
  std::unique_ptr<Executor> orders_;  // last: its tasks use the others
};

struct Flags {
  DaemonFlags daemon;
  int kv_cache_mib = 256;
  int max_sequences = 128;
  int max_batched_tokens = 2048;
  int block_size = 16;
  int swap_mib = 256;
  std::string preemption = "auto";
  int compute_threads = 1;
  std::string device = "cpu";
  std::string device_products = "library";
  double drain_seconds = 10;
  ServingFlags serving;
};

EngineOptions ToEngineOptions(const Flags& flags) {
  EngineOptions options;
  options.block_size = flags.block_size;
  options.kv_cache_bytes = static_cast<int64_t>(flags.kv_cache_mib) << 20;
  options.scheduler.max_sequences = flags.max_sequences;
  options.scheduler.max_batched_tokens = flags.max_batched_tokens;
  options.swap_bytes = static_cast<int64_t>(flags.swap_mib) << 20;
  options.scheduler.preemption = flags.preemption == "swap"        ? Preemption::kSwap
                                 : flags.preemption == "recompute" ? Preemption::kRecompute
                                                                   : Preemption::kAuto;
  options.compute_threads = flags.compute_threads;
  return options;
}

Status Run(const Flags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(auto daemon, Daemon::Start(flags.daemon, "rollout"));
  UseOneTorchThread();
  RecycleTensorMemory();
  ROLLCALL_ASSIGN_OR_RETURN(
      const auto backend,
      OpenBackend(flags.device,
                  flags.device_products == "ordered" ? Products::kOrdered : Products::kLibrary));
  const absl::Duration drain = absl::Seconds(flags.drain_seconds);
  if (!flags.serving.model_directory.empty()) {
    if (flags.device != "cpu") {
      return InvalidArgument("--device " + flags.device +
                             " goes with a coordinator; a model directory is served by the CPU");
    }
    return RunStandalone(flags.daemon, flags.serving, ToEngineOptions(flags), drain, *daemon);
  }
  ROLLCALL_ASSIGN_OR_RETURN(auto coordinator,
                            MakeChannel(flags.daemon.coordinator, flags.daemon.tls));
  const SystemClock clock;
  JobServing serving(flags.serving, flags.daemon.tls,
                     {.coordinator = coordinator,
                      .metrics = daemon->metrics(),
                      .metrics_text = [&] { return daemon->MetricsText(); },
                      .logger = daemon->logger(),
                      .clock = clock});
  Migration migration(flags.daemon.tls, *daemon, clock);
  ROLLCALL_ASSIGN_OR_RETURN(
      auto server,
      RpcServer::Start({.listen_address = flags.daemon.listen, .tls = flags.daemon.tls},
                       {serving.grpc_service(), migration.grpc_service()}));
  EndedJobs ended_jobs;
  const auto fleet = FleetClient::Start(
      {.role = Role::kRollout,
       .name = flags.daemon.name,
       .address = server->address(),
       .metrics_address = daemon->metrics_address(),
       .on_migrations = [&](const auto& orders) { migration.Order(orders); }},
      coordinator, daemon->logger(), [&](const auto& job_ids) { ended_jobs(job_ids); });
  RolloutOptions options;
  options.engine_loop.engine = ToEngineOptions(flags);
  options.loader.tls = flags.daemon.tls;
  options.engine_loop.engine.backend = backend;
  options.loader.backend = backend;
  RolloutService service(options, {.coordinator = coordinator,
                                   .fleet = *fleet,
                                   .metrics = daemon->metrics(),
                                   .logger = daemon->logger(),
                                   .clock = clock,
                                   .on_drain = [&] { daemon->RequestStop(); },
                                   .guest = serving.guest(),
                                   .migration_events = migration.events()});
  migration.Start(service);
  ended_jobs.SetServices(&service, &serving);
  Status ready = serving.Start(service);
  if (ready.ok()) {
    daemon->SetHttpAddress(serving.http_address());
    server->SetServing(true);
    ready = daemon->Ready(server->address());
  }
  if (ready.ok()) daemon->WaitForStop();
  server->SetServing(false);
  serving.Drain(drain);
  service.Drain(drain);
  migration.Stop();
  ended_jobs.SetServices(nullptr, nullptr);
  server->Shutdown(absl::Seconds(1));
  serving.Stop();
  return ready;
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  rollcall::Flags flags;
  CLI::App app("Rollout worker of rollcall: samples trajectories from the policy.",
               "rollcall-rollout");
  rollcall::AddDaemonFlags(app, rollcall::DaemonKind::kWorker, &flags.daemon);
  app.add_option("--kv-cache-mib", flags.kv_cache_mib, "KV cache memory of each job, in MiB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-sequences", flags.max_sequences, "Sequences sampled at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--max-batched-tokens", flags.max_batched_tokens, "Tokens computed in one step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--block-size", flags.block_size, "Tokens in one KV block")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--swap-mib", flags.swap_mib,
                 "Host memory of each job for KV blocks of preempted sequences, in MiB")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--preemption", flags.preemption,
                 "What becomes of a preempted sequence's KV blocks")
      ->check(CLI::IsMember({"auto", "recompute", "swap"}))
      ->capture_default_str();
  app.add_option("--device", flags.device, "Where the model is computed: cpu, or cuda:N for GPU N")
      ->capture_default_str();
  app.add_option("--device-products", flags.device_products,
                 "How a GPU multiplies matrices: fast by the vendor's library, or in an order that "
                 "does not depend on the batch")
      ->check(CLI::IsMember({"library", "ordered"}))
      ->capture_default_str();
  app.add_option("--compute-threads", flags.compute_threads, "Threads that compute one step")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--drain-seconds", flags.drain_seconds,
                 "Time that held work gets to finish after SIGTERM")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  rollcall::AddServingFlags(app, &flags.serving);
  CLI11_PARSE(app, argc, argv);
  const rollcall::Status status = rollcall::Run(flags);
  if (!status.ok()) {
    std::cerr << "rollcall-rollout: " << status.ToString() << "\n";
    return 1;
  }
  return 0;
}
