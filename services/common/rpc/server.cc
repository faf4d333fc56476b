#include "services/common/rpc/server.h"

#include <unistd.h>

#include <array>
#include <mutex>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include "absl/time/clock.h"
#include "services/base/net/address.h"
#include "services/common/rpc/tls.h"

namespace rollcall {
namespace {

constexpr int kKeepaliveMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;
// Clients ping every ten seconds; more often than this is not one of ours.
constexpr int kMinPingIntervalMs = 4000;
constexpr int kMaxStreamsPerConnection = 1024;

StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const ServerOptions& options,
                                                                   const HostPort& address) {
  ROLLCALL_RETURN_IF_ERROR(CheckTlsOptions(options.tls));
  if (!options.tls.enabled()) {
    if (!IsLoopback(address.host)) {
      return InvalidArgument("refusing to listen on '" + options.listen_address +
                             "' without TLS: listen on a loopback address (127.0.0.1) or set the "
                             "CA, certificate and key files");
    }
    return grpc::InsecureServerCredentials();
  }
  ROLLCALL_ASSIGN_OR_RETURN(const TlsMaterial material, LoadTls(options.tls));
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = material.ca;
  ssl.pem_key_cert_pairs.push_back({material.key, material.certificate});
  return grpc::SslServerCredentials(ssl);
}

// What others dial when the server listens on every interface.
std::string HostName() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "localhost";
}

// Process-wide switches of gRPC; they act on servers built afterwards.
void EnableStandardServices() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const ServerOptions& options,
                                                      const std::vector<grpc::Service*>& services) {
  ROLLCALL_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.listen_address));
  ROLLCALL_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options, address));
  EnableStandardServices();

  grpc::ServerBuilder builder;
  // Without this a second server on the same port would silently share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  int bound_port = 0;
  builder.AddListeningPort(JoinHostPort(address), credentials, &bound_port);
  for (grpc::Service* service : services) builder.RegisterService(service);

  auto server = std::unique_ptr<RpcServer>(new RpcServer());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || bound_port <= 0) {
    // gRPC logs why a bind failed but does not return it.
    return Unavailable("cannot listen on " + options.listen_address + ": " +
                       ExplainBindFailure(address));
  }
  address.port = bound_port;
  if (IsWildcard(address.host)) address.host = HostName();
  server->address_ = JoinHostPort(address);
  return server;
}

RpcServer::~RpcServer() {
  if (server_ == nullptr) return;
  Shutdown(absl::ZeroDuration());
  server_->Wait();
}

void RpcServer::SetServing(bool serving) {
  if (auto* health = server_->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus(serving);
  }
}

void RpcServer::Shutdown(absl::Duration grace) {
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
}

}  // namespace rollcall
