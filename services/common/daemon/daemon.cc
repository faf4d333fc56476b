#include "services/common/daemon/daemon.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <nlohmann/json.hpp>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/tls.h"
#include "services/common/storage/files.h"
#include "services/common/telemetry/logging.h"

namespace rollcall {
namespace {

constexpr int kForcedExitCode = 130;

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

Status BlockSignals() {
  const sigset_t signals = StopSignals();
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) {
    return Internal("cannot block SIGTERM: " + std::generic_category().message(error));
  }
  // A peer that closes its connection is an error of one write, not the end of this process.
  ::signal(SIGPIPE, SIG_IGN);
  return OkStatus();
}

Status DieWithParent() {
  const pid_t parent = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
    return Internal("cannot watch the parent process: " + std::generic_category().message(errno));
  }
  // It may have died just before the call, which then reports nothing.
  if (::getppid() != parent) return Cancelled("the parent process is gone");
  return OkStatus();
}

// Processes of the cluster share their machine's cores: a math library that starts one thread per
// core in each of them makes all of them slower.
void LimitMathThreads() {
  for (const char* name : {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}) {
    ::setenv(name, "1", 0);  // NOLINT(concurrency-mt-unsafe): there is one thread yet
  }
}

// Hundreds of connections need more descriptors than the usual soft limit; a system that refuses
// more only accepts fewer.
void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
}

// gRPC locks Abseil's mutexes, and the packaged Abseil keeps a graph of the order of every lock
// that is taken: a debugging aid that costs the coordinator a twentieth of its time.
void KeepNoLockGraph() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

class ProcessDaemon final : public Daemon {
 public:
  ProcessDaemon(DaemonFlags flags, std::unique_ptr<Logger> logger,
                std::unique_ptr<MetricsServer> metrics)
      : flags_(std::move(flags)), logger_(std::move(logger)), metrics_(std::move(metrics)) {
    signal_thread_ = std::thread([this] { WatchSignals(); });
  }

  ~ProcessDaemon() override {
    ending_.store(true);
    // Wakes the thread from sigwait; an error would mean that it ended already.
    // NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread): every thread blocks it, this one waits
    ::pthread_kill(signal_thread_.native_handle(), SIGTERM);
    signal_thread_.join();
  }

  Logger& logger() override { return *logger_; }
  MetricsRegistry& metrics() override { return metrics_->registry(); }
  const std::string& metrics_address() const override { return metrics_->address(); }
  std::string MetricsText() const override { return metrics_->Text(); }
  void SetHttpAddress(const std::string& address) override { http_address_ = address; }

  Status Ready(const std::string& address) override {
    const std::string http = http_address_.empty() ? "" : " http_address=" + http_address_;
    logger_->Info("serving address=" + address + http + " metrics_address=" + metrics_->address() +
                  " pid=" + std::to_string(::getpid()));
    if (flags_.ready_file.empty()) return OkStatus();
    nlohmann::json ready = {
        {"address", address}, {"metrics_address", metrics_->address()}, {"pid", ::getpid()}};
    if (!http_address_.empty()) ready["http_address"] = http_address_;
    return WriteFileAtomic(
        flags_.ready_file,
        ready.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }

  void WaitForStop() override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (!stopping_) stop_.WaitFor(mu_, absl::Hours(1));
  }

  void RequestStop() override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    stopping_ = true;
    stop_.NotifyAll();
  }

  bool stopping() const override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return stopping_;
  }

 private:
  void WatchSignals() {
    const sigset_t signals = StopSignals();
    int num_received = 0;
    while (true) {
      int signal_number = 0;
      const bool received = ::sigwait(&signals, &signal_number) == 0;
      if (ending_.load()) return;
      if (!received) continue;
      const std::string name = signal_number == SIGINT ? "SIGINT" : "SIGTERM";
      if (++num_received > 1) {
        logger_->Error("received " + name + " again, ending at once");
        ::_exit(kForcedExitCode);
      }
      logger_->Info("received " + name + ", stopping; once more ends the process at once");
      RequestStop();
    }
  }

  const DaemonFlags flags_;
  const std::unique_ptr<Logger> logger_;
  const std::unique_ptr<MetricsServer> metrics_;
  std::string http_address_;
  std::atomic<bool> ending_{false};

  mutable Mutex mu_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread signal_thread_;
};

}  // namespace

void AddDaemonFlags(CLI::App& app, DaemonKind kind, DaemonFlags* flags) {
  if (kind == DaemonKind::kCoordinator) flags->listen = "127.0.0.1:7700";
  app.add_option("--name", flags->name, "Stable name of this process, e.g. rollout-0");
  app.add_option("--listen", flags->listen,
                 "host:port of the gRPC server; port 0 picks a free one; a host that is not "
                 "loopback needs TLS")
      ->capture_default_str();
  app.add_option("--metrics-listen", flags->metrics_listen,
                 "host:port of /metrics; port 0 picks a free one")
      ->capture_default_str();
  if (kind == DaemonKind::kWorker) {
    app.add_option("--coordinator", flags->coordinator, "host:port of the coordinator")
        ->capture_default_str();
  }
  app.add_option("--log-file", flags->log_file, "Also append log lines to this file");
  app.add_option("--log-level", flags->log_level, "debug, info, warning or error")
      ->capture_default_str();
  app.add_option("--ready-file", flags->ready_file,
                 "Written once the process serves: JSON with address, metrics_address and pid");
  app.add_option("--tls-ca", flags->tls.ca_file, "PEM file of the CA that both sides trust");
  app.add_option("--tls-cert", flags->tls.certificate_file,
                 "PEM file of this process's certificate");
  app.add_option("--tls-key", flags->tls.key_file, "PEM file of this process's private key");
  app.add_flag("--exit-with-parent", flags->exit_with_parent,
               "Stop when the process that started this one dies");
}

StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const DaemonFlags& flags, const std::string& role) {
  ROLLCALL_RETURN_IF_ERROR(BlockSignals());
  LimitMathThreads();
  KeepNoLockGraph();
  RaiseFileLimit();
  if (flags.exit_with_parent) {
    ROLLCALL_RETURN_IF_ERROR(DieWithParent());
  }
  ROLLCALL_RETURN_IF_ERROR(CheckTlsOptions(flags.tls));
  ROLLCALL_ASSIGN_OR_RETURN(auto logger,
                            MakeLogger({.process = flags.name.empty() ? role : flags.name,
                                        .file = flags.log_file,
                                        .level = flags.log_level}));
  ROLLCALL_ASSIGN_OR_RETURN(auto metrics, StartMetricsServer(flags.metrics_listen, role));
  return std::make_unique<ProcessDaemon>(flags, std::move(logger), std::move(metrics));
}

}  // namespace rollcall
