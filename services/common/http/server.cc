#include "services/common/http/server.h"

#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "absl/time/clock.h"
#include "services/base/net/address.h"
#include "services/common/http/connection.h"
#include "services/common/http/server_core.h"
#include "services/common/rpc/tls.h"

namespace rollcall {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

// Connections that are told at the same time that there are too many; those beyond them wait in the
// kernel's queue for their turn.
constexpr size_t kMaxSurplusConnections = 64;
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr absl::Duration kCutTime = absl::Seconds(5);

StatusOr<asio::ssl::context> MakeTls(const TlsOptions& options, bool requires_certificate) {
  ROLLCALL_ASSIGN_OR_RETURN(const TlsMaterial material, LoadTls(options));
  return GuardExceptions("TLS", [&]() -> StatusOr<asio::ssl::context> {
    asio::ssl::context context(asio::ssl::context::tls_server);
    context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                        asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                        asio::ssl::context::no_tlsv1_1);
    context.use_certificate_chain(asio::buffer(material.certificate));
    context.use_private_key(asio::buffer(material.key), asio::ssl::context::pem);
    context.add_certificate_authority(asio::buffer(material.ca));
    int mode = asio::ssl::verify_peer;
    if (requires_certificate) mode |= asio::ssl::verify_fail_if_no_peer_cert;
    context.set_verify_mode(mode);
    return context;
  });
}

class BeastServer final : public HttpServer {
 public:
  BeastServer(std::shared_ptr<HttpServerCore> core, tcp::acceptor acceptor, std::string address)
      : core_(std::move(core)),
        address_(std::move(address)),
        acceptor_(std::move(acceptor)),
        pause_(acceptor_.get_executor()),
        work_(asio::make_work_guard(core_->io)) {
    asio::post(acceptor_.get_executor(), [this] { Accept(); });
    for (int i = 0; i < core_->options.num_threads; ++i) {
      threads_.emplace_back([this] { core_->io.run(); });
    }
  }
  ~BeastServer() override { Shutdown(absl::ZeroDuration()); }

  const std::string& address() const override { return address_; }
  size_t num_connections() const override { return core_->num_connections(); }

  void Shutdown(absl::Duration grace) override ABSL_LOCKS_EXCLUDED(shutdown_mu_) {
    MutexLock lock(shutdown_mu_);
    if (threads_.empty()) return;
    core_->draining.store(true);
    asio::post(acceptor_.get_executor(), [this] {
      ErrorCode ignored;
      acceptor_.close(ignored);
      pause_.cancel();
    });
    for (const auto& connection : core_->Connections()) connection->Drain();
    if (!core_->WaitUntilEmpty(grace)) {
      for (const auto& connection : core_->Connections()) connection->Cut();
      if (!core_->WaitUntilEmpty(kCutTime)) core_->io.stop();
    }
    {
      MutexLock end_lock(core_->end_mu);
      core_->ended = true;
    }
    work_.reset();
    threads_.clear();
  }

 private:
  void Accept() {
    const auto most = static_cast<size_t>(core_->options.max_connections) + kMaxSurplusConnections;
    if (core_->num_connections() >= most) return AcceptLater();
    acceptor_.async_accept(
        asio::make_strand(core_->io),
        [this](const ErrorCode& error, tcp::socket socket) { OnAccept(error, std::move(socket)); });
  }

  void OnAccept(const ErrorCode& error, tcp::socket socket) {
    if (!acceptor_.is_open() || core_->draining.load()) return;
    if (error) {
      // Out of descriptors, mostly: connections that end free some.
      core_->logger.Warning("cannot accept an HTTP connection: " + error.message());
      return AcceptLater();
    }
    const bool is_surplus =
        core_->num_connections() >= static_cast<size_t>(core_->options.max_connections);
    std::make_shared<HttpConnection>(
        core_, std::move(socket),
        is_surplus ? HttpConnection::Kind::kSurplus : HttpConnection::Kind::kNormal)
        ->Start();
    Accept();
  }

  void AcceptLater() {
    pause_.expires_after(absl::ToChronoNanoseconds(kAcceptPause));
    pause_.async_wait([this](const ErrorCode& cancelled) {
      if (!cancelled && acceptor_.is_open()) Accept();
    });
  }

  const std::shared_ptr<HttpServerCore> core_;
  const std::string address_;
  tcp::acceptor acceptor_;  // used on its strand
  asio::steady_timer pause_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;

  Mutex shutdown_mu_;
  std::vector<std::jthread> threads_;
};

StatusOr<tcp::acceptor> Listen(asio::io_context& io, const HostPort& address) {
  ErrorCode error;
  const auto fail = [&]() -> Status {
    return Unavailable(
        "cannot listen on " + JoinHostPort(address) + ": " +
        (error == asio::error::address_in_use ? ExplainBindFailure(address) : error.message()));
  };
  tcp::resolver resolver(io);
  const auto found =
      resolver.resolve(address.host, std::to_string(address.port), tcp::resolver::passive, error);
  if (error || found.empty()) return fail();
  tcp::acceptor acceptor(asio::make_strand(io));
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return fail();
  return acceptor;
}

}  // namespace

StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                        HttpRoutes routes, MetricsRegistry& metrics,
                                                        Logger& logger) {
  ROLLCALL_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.listen_address));
  ROLLCALL_RETURN_IF_ERROR(CheckTlsOptions(options.tls));
  if (!options.tls.enabled() && !IsLoopback(address.host)) {
    return InvalidArgument("refusing to serve HTTP on '" + options.listen_address +
                           "' without TLS: listen on a loopback address (127.0.0.1) or set the CA, "
                           "certificate and key files");
  }
  ApiKeys keys;
  if (!options.api_key_file.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(keys, ApiKeys::Load(options.api_key_file));
  }
  const bool requires_certificate = keys.empty();
  auto core = std::make_shared<HttpServerCore>(std::move(options), std::move(routes),
                                               std::move(keys), metrics, logger);
  if (core->options.tls.enabled()) {
    ROLLCALL_ASSIGN_OR_RETURN(core->tls, MakeTls(core->options.tls, requires_certificate));
  }
  return GuardExceptions("HTTP server", [&]() -> StatusOr<std::unique_ptr<HttpServer>> {
    ROLLCALL_ASSIGN_OR_RETURN(tcp::acceptor acceptor, Listen(core->io, address));
    address.port = acceptor.local_endpoint().port();
    return std::make_unique<BeastServer>(core, std::move(acceptor), JoinHostPort(address));
  });
}

}  // namespace rollcall
