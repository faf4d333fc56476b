// The HTTP service and the server that has its routes.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "rollout_worker/http_service.h"
#include "services/base/status/status.h"
#include "services/common/http/server.h"

namespace rollcall {

struct HttpEndpointOptions {
  HttpServiceOptions service;
  HttpServerOptions server;  // make_error is set here
};

class HttpEndpoint {
 public:
  // What `parts` borrows, and the registry, must outlive it. Errors as of HttpServer::Start.
  static StatusOr<std::unique_ptr<HttpEndpoint>> Start(HttpEndpointOptions options,
                                                       const HttpService::Parts& parts,
                                                       MetricsRegistry& registry);

  const std::string& address() const { return server_->address(); }
  // From here on /health says 503.
  void SetDraining() { service_.SetDraining(); }
  // Answers that are made already get a moment to leave. Idempotent.
  void Shutdown();

 private:
  HttpEndpoint(const HttpServiceOptions& options, const HttpService::Parts& parts)
      : service_(options, parts) {}

  HttpService service_;
  std::unique_ptr<HttpServer> server_;  // last: ends before what it calls
};

}  // namespace rollcall
