// rollcall-rollout: the rollout worker.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/base/thread_annotations.h"
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
  ROLLCALL_ASSIGN_OR_RETURN(auto server, RpcServer::Start({.listen_address = flags.daemon.listen,
                                                           .tls = flags.daemon.tls},
                                                          {serving.grpc_service()}));
  EndedJobs ended_jobs;
  const auto fleet = FleetClient::Start({.role = Role::kRollout,
                                         .name = flags.daemon.name,
                                         .address = server->address(),
                                         .metrics_address = daemon->metrics_address()},
                                        coordinator, daemon->logger(),
                                        [&](const auto& job_ids) { ended_jobs(job_ids); });
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
                                   .guest = serving.guest()});
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
