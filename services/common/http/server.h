// An HTTP/1.1 server on Boost.Beast: keep-alive, streams, TLS, keys, and a bound for everything
// that a client can make it hold. docs/decisions/2026-11-25-http-library.md says why this library.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/status/status.h"
#include "services/common/http/routes.h"
#include "services/common/rpc/options.h"

namespace rollcall {

struct HttpServerOptions {
  // host:port; port 0 picks a free one. A host that is not loopback needs TLS.
  std::string listen_address = "127.0.0.1:0";
  // With TLS a client shows a certificate of the CA, or, where there are keys, a key.
  TlsOptions tls;
  std::string api_key_file;  // see ApiKeys; empty: no keys
  int num_threads = 1;
  // More connections than these are answered 503 and closed.
  int max_connections = 2048;
  uint32_t max_header_bytes = 32 << 10;
  uint64_t max_body_bytes = 16 << 20;
  // What may wait for one client that reads a stream too slowly; then it is cut. A whole answer
  // waits whatever its size.
  size_t max_stream_buffer_bytes = 1 << 20;
  absl::Duration idle_timeout = absl::Seconds(75);  // between requests
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(60);
  absl::Duration write_timeout = absl::Seconds(30);  // for each piece that the client has to take
  // Makes the answers that the server gives by itself (400, 401, 404, 405, 413, 431, 500, 503).
  std::function<HttpResponse(int status, std::string_view message)> make_error;
};

// Thread-safe.
class HttpServer {
 public:
  // The registry and the logger must outlive the server and every exchange of it.
  // kInvalidArgument: a wide bind without TLS, unreadable files; kUnavailable: the address cannot
  // be bound.
  static StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, HttpRoutes routes,
                                                     MetricsRegistry& metrics, Logger& logger);
  // Shuts down without patience.
  virtual ~HttpServer() = default;
  // host:port.
  virtual const std::string& address() const = 0;
  virtual size_t num_connections() const = 0;
  // Takes no more connections and requests, lets answers end for `grace`, then cuts them. Blocks;
  // idempotent; not from a handler.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace rollcall
