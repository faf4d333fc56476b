// What the connections of one HTTP server share. Internal: sees Boost.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "services/base/log/log.h"
#include "services/base/sync/mutex.h"
#include "services/common/http/api_keys.h"
#include "services/common/http/metrics.h"
#include "services/common/http/routes.h"
#include "services/common/http/server.h"

namespace rollcall {

class HttpConnection;

// Thread-safe. Owned by the server and by every connection.
struct HttpServerCore {
  HttpServerCore(HttpServerOptions server_options, HttpRoutes server_routes, ApiKeys api_keys,
                 MetricsRegistry& registry, Logger& server_logger);

  // Runs `fn` on the server's threads through the executor, or drops it after the server ended.
  template <typename Executor, typename Fn>
  void Post(const Executor& executor, Fn fn) ABSL_LOCKS_EXCLUDED(end_mu) {
    MutexLock lock(end_mu);
    if (!ended) boost::asio::post(executor, std::move(fn));
  }

  void Register(const std::shared_ptr<HttpConnection>& connection) ABSL_LOCKS_EXCLUDED(mu);
  void Unregister(HttpConnection* connection) ABSL_LOCKS_EXCLUDED(mu);
  size_t num_connections() ABSL_LOCKS_EXCLUDED(mu);
  // Those that live.
  std::vector<std::shared_ptr<HttpConnection>> Connections() ABSL_LOCKS_EXCLUDED(mu);
  // False when `timeout` passed before the last one went.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu);
  HttpResponse MakeError(int status, std::string_view message) const;

  const HttpServerOptions options;
  const HttpRoutes routes;
  const ApiKeys keys;
  HttpMetrics metrics;
  Logger& logger;
  std::optional<boost::asio::ssl::context> tls;
  std::atomic<bool> draining{false};

  Mutex mu;
  CondVar changed;
  std::unordered_map<HttpConnection*, std::weak_ptr<HttpConnection>> connections
      ABSL_GUARDED_BY(mu);

  Mutex end_mu;
  bool ended ABSL_GUARDED_BY(end_mu) = false;

  boost::asio::io_context io;  // last: what waits in it refers to the rest
};

}  // namespace rollcall
