// What the main() of every daemon has in common: flags, logging, metrics, signals.
#pragma once

#include <memory>
#include <string>

#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"
#include "services/common/telemetry/prometheus_metrics.h"

namespace CLI {
class App;
}

namespace rollcall {

struct DaemonFlags {
  std::string name;                            // --name
  std::string listen = "127.0.0.1:0";          // --listen
  std::string metrics_listen = "127.0.0.1:0";  // --metrics-listen
  std::string coordinator = "127.0.0.1:7700";  // --coordinator (workers only)
  std::string log_file;                        // --log-file
  std::string log_level = "info";              // --log-level
  // Written atomically once the process serves, as JSON {"address","metrics_address","pid"}.
  std::string ready_file;  // --ready-file
  TlsOptions tls;          // --tls-ca, --tls-cert, --tls-key
  // SIGTERM when the process that started this one dies, so that no daemon outlives its supervisor.
  bool exit_with_parent = false;  // --exit-with-parent
};

enum class DaemonKind { kCoordinator, kWorker };

// Adds the flags to the app. The coordinator listens on port 7700 unless told otherwise.
void AddDaemonFlags(CLI::App& app, DaemonKind kind, DaemonFlags* flags);

// Logging, /metrics and signal handling of one process.
class Daemon {
 public:
  // Blocks SIGTERM and SIGINT in every thread started later, ignores SIGPIPE, and gives each math
  // library one thread unless the environment says otherwise. Call before any thread exists.
  // `role` is "coordinator", "rollout", ...; the name on log lines is flags.name, else the role.
  static StatusOr<std::unique_ptr<Daemon>> Start(const DaemonFlags& flags, const std::string& role);
  virtual ~Daemon() = default;
  virtual Logger& logger() = 0;
  virtual MetricsRegistry& metrics() = 0;
  virtual const std::string& metrics_address() const = 0;
  // The page of /metrics.
  virtual std::string MetricsText() const = 0;
  // Of an HTTP API, for the ready file's "http_address"; call before Ready.
  virtual void SetHttpAddress(const std::string& address) = 0;
  // Writes the ready file when one was asked for.
  virtual Status Ready(const std::string& address) = 0;
  // Waits until SIGTERM or SIGINT, or RequestStop() from any thread. A second signal ends the
  // process at once with exit code 130.
  virtual void WaitForStop() = 0;
  virtual void RequestStop() = 0;
  virtual bool stopping() const = 0;
};

}  // namespace rollcall
