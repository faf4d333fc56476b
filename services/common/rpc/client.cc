#include "services/common/rpc/client.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <thread>

#include "services/base/net/address.h"
#include "services/base/runtime/random.h"
#include "services/common/rpc/tls.h"

namespace rollcall {
namespace {

constexpr int kInitialReconnectMs = 50;
constexpr int kMaxReconnectMs = 1000;
// Bound of one connection attempt, TLS handshake included.
constexpr int kConnectTimeoutMs = 5000;
constexpr int kKeepaliveMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;

grpc::ChannelArguments MakeChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kInitialReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A proxy named by the environment is meant for the web, never for a peer of this cluster.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                     const TlsOptions& tls) {
  ROLLCALL_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  if (target.port == 0) {
    return InvalidArgument("'" + address + "' cannot be dialled: port 0 is nobody's port");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckTlsOptions(tls));
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (tls.enabled()) {
    ROLLCALL_ASSIGN_OR_RETURN(const TlsMaterial material, LoadTls(tls));
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = material.ca;
    options.pem_private_key = material.key;
    options.pem_cert_chain = material.certificate;
    credentials = grpc::SslCredentials(options);
  } else if (IsLoopback(target.host)) {
    credentials = grpc::InsecureChannelCredentials();
  } else {
    return InvalidArgument("'" + address +
                           "' is not a loopback address: without TLS only this machine may be "
                           "dialled (set the CA, certificate and key files)");
  }
  return grpc::CreateCustomChannel(JoinHostPort(target), credentials, MakeChannelArguments());
}

namespace internal {

void BackOff(int attempt) {
  constexpr absl::Duration kFirst = absl::Milliseconds(50);
  constexpr absl::Duration kMost = absl::Seconds(1);
  const absl::Duration full =
      std::min(kMost, kFirst * (int64_t{1} << std::clamp(attempt - 1, 0, 5)));
  // The jitter only has to differ between the callers that failed together.
  const std::array<uint64_t, 2> words = {
      static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()),
      std::hash<std::thread::id>()(std::this_thread::get_id())};
  absl::SleepFor(full * (0.5 + 0.5 * CounterRandom(MixKey(words)).Uniform()));
}

}  // namespace internal
}  // namespace rollcall
