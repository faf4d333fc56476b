#include "services/common/http/server.h"

#include <cstdlib>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "services/base/sync/mutex.h"
#include "tests/support/catch.h"
#include "tests/support/raw_http.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::GetRequest;
using testing::PostRequest;
using testing::RawHttp;

constexpr absl::Duration kPatience = absl::Seconds(20);

// Hands the exchanges that it gets to the test.
class Mailbox {
 public:
  HttpHandler handler() {
    return [this](std::shared_ptr<HttpExchange> exchange) {
      MutexLock lock(mu_);
      exchanges_.push_back(std::move(exchange));
      arrived_.NotifyAll();
    };
  }
  std::shared_ptr<HttpExchange> Take() {
    MutexLock lock(mu_);
    const absl::Time deadline = absl::Now() + kPatience;
    while (exchanges_.empty() && absl::Now() < deadline) arrived_.WaitFor(mu_, absl::Seconds(1));
    REQUIRE_FALSE(exchanges_.empty());
    auto exchange = std::move(exchanges_.front());
    exchanges_.erase(exchanges_.begin());
    return exchange;
  }

 private:
  Mutex mu_;
  CondVar arrived_;
  std::vector<std::shared_ptr<HttpExchange>> exchanges_ ABSL_GUARDED_BY(mu_);
};

void Echo(const std::shared_ptr<HttpExchange>& exchange) {
  exchange->Respond({.body = exchange->request().method + " " + exchange->request().path + "?" +
                             exchange->request().query + " " + exchange->request().body});
}

struct Fixture {
  explicit Fixture(HttpServerOptions options = {}) {
    HttpRoutes routes;
    routes.Add({.method = "GET", .pattern = "/echo", .handler = Echo});
    routes.Add({.method = "POST", .pattern = "/echo", .handler = Echo});
    routes.Add({.method = "GET", .pattern = "/open", .handler = Echo, .access = HttpAccess::kOpen});
    routes.Add({.method = "GET", .pattern = "/mail", .handler = mailbox.handler()});
    routes.Add({.method = "GET", .pattern = "/drop", .handler = [](auto) {}});
    routes.Add({.method = "GET", .pattern = "/throw", .handler = [](auto) -> void {
                  throw std::runtime_error("a handler's mistake");
                }});
    auto started = HttpServer::Start(std::move(options), std::move(routes), *metrics, logger);
    REQUIRE_OK(started.status());
    server = *std::move(started);
  }

  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  NullLogger logger;
  Mailbox mailbox;
  std::unique_ptr<HttpServer> server;
};

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (absl::Now() < deadline) {
    if (condition()) return true;
    std::this_thread::yield();
  }
  return false;
}

TEST_CASE("HttpServer: answers several requests over one connection") {
  const Fixture fixture;
  RawHttp client(fixture.server->address());
  const auto get = client.Ask(GetRequest("/echo?a=1&b=2"));
  CHECK(get.status == 200);
  CHECK(get.body == "GET /echo?a=1&b=2 ");
  CHECK(client.Ask(PostRequest("/echo", "{\"x\":1}")).body == "POST /echo? {\"x\":1}");
  const auto chunked = client.Ask(
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  CHECK(chunked.body == "POST /echo? abc");
  CHECK(client.Ask("HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status == 200);
  CHECK(client.WaitForClose());
}

TEST_CASE("HttpServer: requests that were sent ahead are answered in order") {
  const Fixture fixture;
  RawHttp client(fixture.server->address());
  std::string all;
  for (int i = 0; i < 20; ++i) all += PostRequest("/echo", std::to_string(i));
  REQUIRE(client.Send(all));
  for (int i = 0; i < 20; ++i) {
    CHECK(client.Read().body == "POST /echo? " + std::to_string(i));
  }
}

TEST_CASE("HttpServer: what it answers by itself") {
  const Fixture fixture({.max_header_bytes = 4096, .max_body_bytes = 1000});
  const auto ask = [&](const std::string& bytes) {
    return RawHttp(fixture.server->address()).Ask(bytes).status;
  };
  CHECK(ask(GetRequest("/none")) == 404);
  CHECK(ask("DELETE /echo HTTP/1.1\r\n\r\n") == 405);
  CHECK(ask("nonsense\r\n\r\n") == 400);
  CHECK(ask("GET /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n") == 400);
  CHECK(ask(PostRequest("/echo", std::string(1000, 'x'))) == 200);
  CHECK(ask(PostRequest("/echo", std::string(1001, 'x'))) == 413);
  CHECK(ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" +
            std::string(1001, 'x') + "\r\n0\r\n\r\n") == 413);
  CHECK(ask(GetRequest("/echo", "X-Long: " + std::string(5000, 'x') + "\r\n")) == 431);
  CHECK(ask(GetRequest("/drop")) == 500);
  CHECK(ask(GetRequest("/throw")) == 500);
}

TEST_CASE("HttpServer: a client that waits for leave to send its body gets it") {
  const Fixture fixture;
  RawHttp client(fixture.server->address());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  CHECK(client.ReadUntil("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(client.Ask("abc").body == "POST /echo? abc");
}

TEST_CASE("HttpServer: keys guard every route that is not open") {
  const testing::TempDir dir;
  const Fixture fixture({.api_key_file = dir.Write("keys", "0123456789abcdef-key\n")});
  const auto ask = [&](const std::string& path, const std::string& headers) {
    return RawHttp(fixture.server->address()).Ask(GetRequest(path, headers));
  };
  const auto refused = ask("/echo", "");
  CHECK(refused.status == 401);
  CHECK(refused.head.find("WWW-Authenticate: Bearer") != std::string::npos);
  CHECK(ask("/none", "").status == 401);
  CHECK(ask("/echo", "Authorization: Bearer 0123456789abcdef-kez\r\n").status == 401);
  CHECK(ask("/echo", "Authorization: Bearer 0123456789abcdef-key\r\n").status == 200);
  CHECK(ask("/open", "").status == 200);
}

TEST_CASE("HttpServer: a stream arrives piece by piece and whole") {
  Fixture fixture;
  RawHttp client(fixture.server->address());
  client.Send(GetRequest("/mail"));
  const auto exchange = fixture.mailbox.Take();
  exchange->StartStream({.content_type = "text/event-stream"});
  CHECK(exchange->Write(ServerSentEvent("one")));
  CHECK(client.ReadUntil("data: one\n\n").find("chunked") != std::string::npos);
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) exchange->Write(std::to_string(i) + ",");
    exchange->EndStream();
  });
  const std::string rest = client.ReadUntil("0\r\n\r\n");
  writer.join();
  CHECK(rest.find("999,") != std::string::npos);
  CHECK_FALSE(exchange->Write("late"));
  // The connection goes on.
  CHECK(client.Ask(GetRequest("/echo")).status == 200);
}

TEST_CASE("HttpServer: HTTP/1.0 streams end with the connection") {
  Fixture fixture;
  RawHttp client(fixture.server->address());
  client.Send("GET /mail HTTP/1.0\r\n\r\n");
  const auto exchange = fixture.mailbox.Take();
  exchange->StartStream({.content_type = "text/plain"});
  exchange->Write("abc");
  exchange->EndStream();
  const auto response = client.Read();
  CHECK(response.body == "abc");
  CHECK(response.head.find("chunked") == std::string::npos);
}

TEST_CASE("HttpServer: a stream that is dropped does not look whole") {
  Fixture fixture;
  RawHttp client(fixture.server->address());
  client.Send(GetRequest("/mail"));
  auto exchange = fixture.mailbox.Take();
  exchange->StartStream({});
  exchange->Write("abc");
  exchange.reset();
  const auto response = client.Read();
  CHECK(response.body == "abc");
  CHECK_FALSE(response.is_whole);
}

TEST_CASE("HttpServer: the handler hears that the client went") {
  Fixture fixture;
  for (const bool streams : {false, true}) {
    RawHttp client(fixture.server->address());
    client.Send(GetRequest("/mail"));
    const auto exchange = fixture.mailbox.Take();
    if (streams) exchange->StartStream({});
    std::promise<void> gone;
    exchange->OnDisconnect([&] { gone.set_value(); });
    client.Close();
    CHECK(gone.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
    CHECK_FALSE(exchange->Write("x"));
    // Told at once when it is asked for too late.
    bool is_told = false;
    exchange->OnDisconnect([&] { is_told = true; });
    CHECK(is_told);
  }
}

TEST_CASE("HttpServer: nothing is heard of a client that goes after its answer") {
  Fixture fixture;
  RawHttp client(fixture.server->address());
  client.Send(GetRequest("/mail"));
  const auto exchange = fixture.mailbox.Take();
  bool is_told = false;
  exchange->OnDisconnect([&] { is_told = true; });
  exchange->Respond({.body = "done"});
  CHECK(client.Read().body == "done");
  client.Close();
  REQUIRE(Eventually([&] { return fixture.server->num_connections() == 0; }));
  CHECK_FALSE(is_told);
}

TEST_CASE("HttpServer: a reader that does not read is cut, with bounded memory") {
  Fixture fixture({.max_stream_buffer_bytes = 100000});
  RawHttp client(fixture.server->address());
  client.Send(GetRequest("/mail"));
  const auto exchange = fixture.mailbox.Take();
  exchange->StartStream({});
  std::atomic<bool> is_gone = false;
  exchange->OnDisconnect([&] { is_gone = true; });
  const std::string piece(10000, 'x');
  // The kernel holds some megabytes, the server no more than the bound.
  bool is_cut = false;
  for (int i = 0; i < 100000 && !is_cut; ++i) is_cut = !exchange->Write(piece);
  CHECK(is_cut);
  CHECK(Eventually([&] { return is_gone.load(); }));
  CHECK(Eventually([&] { return fixture.server->num_connections() == 0; }));
}

TEST_CASE("HttpServer: clients that send too slowly or nothing are let go") {
  const Fixture fixture({.idle_timeout = absl::Milliseconds(50),
                         .header_timeout = absl::Milliseconds(50),
                         .body_timeout = absl::Milliseconds(50)});
  RawHttp idle(fixture.server->address());
  RawHttp in_head(fixture.server->address());
  in_head.Send("GET /echo HT");
  RawHttp in_body(fixture.server->address());
  in_body.Send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  CHECK(idle.WaitForClose());
  CHECK(in_head.WaitForClose());
  CHECK(in_body.WaitForClose());
}

TEST_CASE("HttpServer: too many connections are told so, and room is found again") {
  const Fixture fixture({.max_connections = 2});
  auto first = std::make_unique<RawHttp>(fixture.server->address());
  CHECK(first->Ask(GetRequest("/echo")).status == 200);
  RawHttp second(fixture.server->address());
  CHECK(second.Ask(GetRequest("/echo")).status == 200);
  {
    RawHttp third(fixture.server->address());
    const auto refused = third.Ask(GetRequest("/echo"));
    CHECK(refused.status == 503);
    CHECK(refused.head.find("Retry-After: 1") != std::string::npos);
  }
  first.reset();
  CHECK(Eventually(
      [&] { return RawHttp(fixture.server->address()).Ask(GetRequest("/echo")).status == 200; }));
}

TEST_CASE("HttpServer: however many come at once, all are told that there are too many") {
  const Fixture fixture({.max_connections = 1});
  RawHttp first(fixture.server->address());
  CHECK(first.Ask(GetRequest("/echo")).status == 200);
  // All are there before one of them says anything.
  std::vector<std::unique_ptr<RawHttp>> surplus;
  for (int i = 0; i < 200; ++i) {
    surplus.push_back(std::make_unique<RawHttp>(fixture.server->address()));
  }
  int num_told = 0;
  for (const auto& connection : surplus) {
    if (connection->Ask(GetRequest("/echo")).status == 503) ++num_told;
    connection->Close();
  }
  CHECK(num_told == 200);
  CHECK(first.Ask(GetRequest("/echo")).status == 200);
}

TEST_CASE("HttpServer: connections that are too many and say nothing are not kept for long") {
  const Fixture fixture({.max_connections = 1, .header_timeout = absl::Milliseconds(200)});
  RawHttp first(fixture.server->address());
  CHECK(first.Ask(GetRequest("/echo")).status == 200);
  RawHttp silent(fixture.server->address());
  CHECK(silent.WaitForClose());
  CHECK(first.Ask(GetRequest("/echo")).status == 200);
}

TEST_CASE("HttpServer: a shutdown lets answers end, and cuts those that do not") {
  Fixture fixture;
  RawHttp idle(fixture.server->address());
  CHECK(idle.Ask(GetRequest("/echo")).status == 200);
  RawHttp patient(fixture.server->address());
  patient.Send(GetRequest("/mail"));
  const auto answered = fixture.mailbox.Take();
  std::thread shutdown([&] { fixture.server->Shutdown(kPatience); });
  CHECK(idle.WaitForClose());
  answered->Respond({.body = "done"});
  CHECK(patient.Read().body == "done");
  shutdown.join();
  CHECK(fixture.server->num_connections() == 0);

  Fixture impatient;
  RawHttp client(impatient.server->address());
  client.Send(GetRequest("/mail"));
  const auto never = impatient.mailbox.Take();
  impatient.server->Shutdown(absl::Milliseconds(20));
  CHECK(client.WaitForClose());
  impatient.server.reset();
  // An exchange outlives its server.
  never->Respond({.body = "too late"});
}

TEST_CASE("HttpServer: refuses addresses that it must not or cannot serve") {
  const Fixture fixture;
  NullLogger logger;
  const auto metrics = MakeNullMetrics();
  const auto start = [&](HttpServerOptions options) {
    return HttpServer::Start(std::move(options), {}, *metrics, logger).status();
  };
  CHECK(start({.listen_address = "0.0.0.0:0"}).code() == StatusCode::kInvalidArgument);
  CHECK(start({.listen_address = "nonsense"}).code() == StatusCode::kInvalidArgument);
  const Status taken = start({.listen_address = fixture.server->address()});
  CHECK(taken.code() == StatusCode::kUnavailable);
  CHECK(Message(taken).find("in use") != std::string::npos);
}

// A CA and a certificate of it for 127.0.0.1; false where there is no openssl program.
bool MakeCertificates(const testing::TempDir& dir) {
  const std::string script =
      "cd " + dir.path().string() +
      " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
      "-subj /CN=ca -keyout ca.key -out ca.pem 2>/dev/null && "
      "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server "
      "-keyout server.key -out server.csr 2>/dev/null && echo subjectAltName=IP:127.0.0.1 > ext && "
      "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
      "-extfile ext -out server.pem 2>/dev/null";
  return std::system(script.c_str()) == 0;  // NOLINT(concurrency-mt-unsafe): the test's one thread
}

TEST_CASE("HttpServer: over TLS a client shows a certificate, or a key where there are keys") {
  const testing::TempDir dir;
  if (!MakeCertificates(dir) || std::system("curl --version >/dev/null 2>&1") != 0) {  // NOLINT
    WARN("[skipped] no openssl or curl here");
    return;
  }
  const TlsOptions tls{.ca_file = dir.File("ca.pem"),
                       .certificate_file = dir.File("server.pem"),
                       .key_file = dir.File("server.key")};
  const auto curl = [&](const HttpServer& server, const std::string& flags) {
    const std::string command = "curl -s -m 10 -o /dev/null --cacert " + tls.ca_file + " " + flags +
                                " -f https://" + server.address() + "/echo";
    return std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe): the test's one thread
  };
  const std::string certificate = "--cert " + tls.certificate_file + " --key " + tls.key_file;
  const Fixture mutual({.tls = tls});
  CHECK(curl(*mutual.server, certificate) == 0);
  CHECK(curl(*mutual.server, "") != 0);
  const Fixture keyed({.tls = tls, .api_key_file = dir.Write("keys", "0123456789abcdef-key\n")});
  CHECK(curl(*keyed.server, "-H 'Authorization: Bearer 0123456789abcdef-key'") == 0);
  CHECK(curl(*keyed.server, "") != 0);
}

}  // namespace
}  // namespace rollcall
