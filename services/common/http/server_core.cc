#include "services/common/http/server_core.h"

#include <utility>

#include "absl/time/clock.h"

namespace rollcall {

HttpServerCore::HttpServerCore(HttpServerOptions server_options, HttpRoutes server_routes,
                               ApiKeys api_keys, MetricsRegistry& registry, Logger& server_logger)
    : options(std::move(server_options)),
      routes(std::move(server_routes)),
      keys(std::move(api_keys)),
      metrics(registry),
      logger(server_logger) {}

void HttpServerCore::Register(const std::shared_ptr<HttpConnection>& connection) {
  MutexLock lock(mu);
  connections.emplace(connection.get(), connection);
  metrics.Connections(connections.size());
}

void HttpServerCore::Unregister(HttpConnection* connection) {
  MutexLock lock(mu);
  connections.erase(connection);
  metrics.Connections(connections.size());
  if (connections.empty()) changed.NotifyAll();
}

size_t HttpServerCore::num_connections() {
  MutexLock lock(mu);
  return connections.size();
}

std::vector<std::shared_ptr<HttpConnection>> HttpServerCore::Connections() {
  MutexLock lock(mu);
  std::vector<std::shared_ptr<HttpConnection>> live;
  live.reserve(connections.size());
  for (const auto& [pointer, weak] : connections) {
    if (auto connection = weak.lock()) live.push_back(std::move(connection));
  }
  return live;
}

bool HttpServerCore::WaitUntilEmpty(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mu);
  while (!connections.empty()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed.WaitFor(mu, left);
  }
  return true;
}

HttpResponse HttpServerCore::MakeError(int status, std::string_view message) const {
  if (options.make_error) return options.make_error(status, message);
  return {.status = status,
          .content_type = "text/plain; charset=utf-8",
          .body = std::string(message) + "\n"};
}

}  // namespace rollcall
