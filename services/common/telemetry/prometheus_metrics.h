// prometheus-cpp behind base's MetricsRegistry, and the /metrics endpoint.
#pragma once

#include <memory>
#include <string>

#include "services/base/metrics/metrics.h"
#include "services/base/status/status.h"

namespace rollcall {

// Serves /metrics at host:port (port 0 picks a free one; loopback unless the host says otherwise).
// The registry also exports process_start_time_seconds, process_resident_memory_bytes,
// process_cpu_seconds_total, process_open_fds and rollcall_build_info{role,version}.
class MetricsServer {
 public:
  virtual ~MetricsServer() = default;
  virtual MetricsRegistry& registry() = 0;
  virtual const std::string& address() const = 0;
  // The page of /metrics, for servers that show it as well.
  virtual std::string Text() const = 0;
};

// kUnavailable: the address cannot be bound.
StatusOr<std::unique_ptr<MetricsServer>> StartMetricsServer(const std::string& listen_address,
                                                            const std::string& role);

}  // namespace rollcall
