#include "services/common/http/metrics.h"

#include <algorithm>
#include <string>

namespace rollcall {

HttpMetrics::HttpMetrics(MetricsRegistry& registry)
    : connections_(registry.GetGauge("rollcall_http_connections", "Open HTTP connections")),
      refused_(registry.GetCounter("rollcall_http_connections_refused_total",
                                   "Connections refused because there were too many")),
      keys_refused_(
          registry.GetCounter("rollcall_http_keys_refused_total", "Requests without a valid key")),
      gone_(registry.GetCounter("rollcall_http_clients_gone_total",
                                "Clients that went before their answer was complete")),
      slow_readers_(registry.GetCounter("rollcall_http_slow_readers_total",
                                        "Connections cut because the client did not read")),
      slow_writers_(
          registry.GetCounter("rollcall_http_slow_writers_total",
                              "Connections cut because a request did not arrive in time")),
      seconds_(registry.GetHistogram("rollcall_http_request_seconds",
                                     "From the whole request to the whole answer",
                                     LatencyBuckets())) {
  for (size_t i = 0; i < answered_.size(); ++i) {
    answered_[i] = &registry.GetCounter("rollcall_http_requests_total",
                                        "Requests answered, by class of status",
                                        {{"status", std::to_string(i + 1) + "xx"}});
  }
}

void HttpMetrics::Answered(int status, double seconds) {
  answered_[static_cast<size_t>(std::clamp(status / 100, 1, 5)) - 1]->Increment();
  seconds_.Observe(seconds);
}

}  // namespace rollcall
