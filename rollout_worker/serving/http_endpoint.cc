#include "rollout_worker/serving/http_endpoint.h"

#include <utility>

namespace rollcall {
namespace {

constexpr absl::Duration kFarewell = absl::Seconds(2);

}  // namespace

StatusOr<std::unique_ptr<HttpEndpoint>> HttpEndpoint::Start(HttpEndpointOptions options,
                                                            const HttpService::Parts& parts,
                                                            MetricsRegistry& registry) {
  auto endpoint = std::unique_ptr<HttpEndpoint>(new HttpEndpoint(options.service, parts));
  options.server.make_error = [](int status, std::string_view message) {
    return ErrorResponse({.status = status,
                          .message = std::string(message),
                          .type = status < 500 ? "invalid_request_error" : "server_error"});
  };
  ROLLCALL_ASSIGN_OR_RETURN(
      endpoint->server_, HttpServer::Start(std::move(options.server), endpoint->service_.Routes(),
                                           registry, parts.logger));
  return endpoint;
}

void HttpEndpoint::Shutdown() { server_->Shutdown(kFarewell); }

}  // namespace rollcall
