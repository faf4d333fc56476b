// One gRPC server with the standard health service and reflection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"

namespace rollcall {

struct ServerOptions {
  // host:port; port 0 picks a free one. Without TLS the host must be a loopback address.
  std::string listen_address = "127.0.0.1:0";
  TlsOptions tls;
};

// Thread-safe.
class RpcServer {
 public:
  // Services are borrowed and must outlive the server. kInvalidArgument: a wide bind without TLS;
  // kUnavailable: the address cannot be bound (the message names it, e.g. port in use).
  static StatusOr<std::unique_ptr<RpcServer>> Start(const ServerOptions& options,
                                                    const std::vector<grpc::Service*>& services);
  ~RpcServer();

  // host:port that clients dial.
  const std::string& address() const { return address_; }
  // Serving state of the health service, for the whole server ("").
  void SetServing(bool serving);
  // Refuses new calls, lets running ones end for `grace`, then cancels them. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  RpcServer() = default;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace rollcall
