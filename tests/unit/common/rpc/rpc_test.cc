// Server, client and unary calls over loopback.

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "services/base/runtime/executor.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"
#include "services/common/rpc/unary.h"
#include "tests/support/catch.h"
#include "tests/unit/common/rpc/fleet_fixture.h"

namespace rollcall {
namespace {

using testing::ScriptedFleet;
using FleetStub = v1::FleetService::Stub;

constexpr std::chrono::seconds kPatience(30);

// A server with one scripted service, and a stub for it.
struct Loopback {
  explicit Loopback(ScriptedFleet::Handler on_register) : service(std::move(on_register)) {
    auto started = RpcServer::Start({}, {&service});
    REQUIRE_OK(started.status());
    server = *std::move(started);
    auto made = MakeChannel(server->address());
    REQUIRE_OK(made.status());
    stub = v1::FleetService::NewStub(*made);
  }

  Status Register(const v1::RegisterRequest& request, v1::RegisterResponse* response,
                  const CallOptions& options = {}) {
    return Call(*stub, &FleetStub::Register, request, response, options);
  }

  ScriptedFleet service;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<FleetStub> stub;
};

v1::RegisterRequest Named(const std::string& name) {
  v1::RegisterRequest request;
  request.set_name(name);
  return request;
}

grpc::ServerUnaryReactor* Answer(const Status& status) {
  auto* call = new PendingUnary();
  call->Finish(status);
  return call;
}

TEST_CASE("rpc: a call on the pool brings back the response", "[unit][rpc]") {
  const auto pool = MakeThreadPool(2, 8);
  Loopback loopback([&](auto* context, const auto* request, auto* response) {
    return RunUnary(context, *pool, [=] {
      response->set_worker_id("id of " + request->name());
      return OkStatus();
    });
  });
  v1::RegisterResponse response;
  REQUIRE_OK(loopback.Register(Named("rollout-0"), &response));
  CHECK(response.worker_id() == "id of rollout-0");
}

TEST_CASE("rpc: codes and messages travel unchanged", "[unit][rpc]") {
  for (int code = 1; code <= static_cast<int>(StatusCode::kUnauthenticated); ++code) {
    const Status status =
        MakeStatus(static_cast<StatusCode>(code), "reason " + std::to_string(code));
    CHECK(FromGrpc(ToGrpc(status)) == status);
  }
  CHECK(ToGrpc(OkStatus()).ok());
  CHECK(FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(99), "?")).code() ==
        StatusCode::kUnknown);
  Loopback loopback([](auto*, const auto*, auto*) { return Answer(Aborted("fenced: epoch 4")); });
  v1::RegisterResponse response;
  const Status status = loopback.Register({}, &response);
  CHECK(status.code() == StatusCode::kAborted);
  CHECK(Message(status) == "fenced: epoch 4");
}

TEST_CASE("rpc: an exception of a handler is kInternal for its caller only", "[unit][rpc]") {
  const auto pool = MakeThreadPool(1, 8);
  Loopback loopback([&](auto* context, const auto* request, auto*) {
    return RunUnary(context, *pool, [=]() -> Status {
      if (request->name() == "bad") throw std::runtime_error("broken handler");
      return OkStatus();
    });
  });
  v1::RegisterResponse response;
  const Status status = loopback.Register(Named("bad"), &response);
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(Message(status).find("broken handler") != std::string::npos);
  REQUIRE_OK(loopback.Register(Named("good"), &response));
}

TEST_CASE("rpc: a full executor answers RESOURCE_EXHAUSTED", "[unit][rpc]") {
  std::promise<void> release;
  std::promise<void> started;
  const auto pool = MakeThreadPool(1, 1);
  REQUIRE_OK(pool->Schedule([&, gate = release.get_future().share()] {
    started.set_value();
    gate.wait_for(kPatience);
  }));
  REQUIRE(started.get_future().wait_for(kPatience) == std::future_status::ready);
  REQUIRE_OK(pool->Schedule([] {}));
  Loopback loopback([&](auto* context, const auto*, auto*) {
    return RunUnary(context, *pool, [] { return OkStatus(); });
  });
  v1::RegisterResponse response;
  const Status status = loopback.Register({}, &response);
  release.set_value();
  CHECK(status.code() == StatusCode::kResourceExhausted);
}

TEST_CASE("rpc: the caller's deadline ends the call and reaches the server", "[unit][rpc]") {
  std::promise<absl::Duration> remaining;
  std::promise<void> cancelled;
  Loopback loopback([&](auto* context, const auto*, auto*) {
    remaining.set_value(RemainingTime(*context, absl::Seconds(60)));
    auto pending = std::make_shared<std::atomic<PendingUnary*>>(nullptr);
    auto* call = new PendingUnary([&cancelled, pending] {
      cancelled.set_value();
      pending->load()->Finish(Cancelled("nobody waits"));
    });
    pending->store(call);
    return call;
  });
  v1::RegisterResponse response;
  const Status status =
      loopback.Register({}, &response, {.timeout = absl::Milliseconds(200), .max_attempts = 3});
  CHECK(status.code() == StatusCode::kDeadlineExceeded);
  const absl::Duration seen = remaining.get_future().get();
  CHECK(seen > absl::ZeroDuration());
  // The wire has the time that is left, rounded up to a few of its digits.
  CHECK(seen <= absl::Milliseconds(210));
  CHECK(cancelled.get_future().wait_for(kPatience) == std::future_status::ready);
}

TEST_CASE("rpc: RemainingTime is capped when the caller would wait longer", "[unit][rpc]") {
  std::promise<absl::Duration> remaining;
  Loopback loopback([&](auto* context, const auto*, auto*) {
    remaining.set_value(RemainingTime(*context, absl::Seconds(2)));
    return Answer(OkStatus());
  });
  v1::RegisterResponse response;
  grpc::ClientContext endless;
  REQUIRE_OK(FromGrpc(loopback.stub->Register(&endless, {}, &response)));
  CHECK(remaining.get_future().get() == absl::Seconds(2));
}

TEST_CASE("rpc: work that nobody waits for is not begun", "[unit][rpc]") {
  std::promise<void> release;
  std::promise<void> started;
  std::atomic<int> runs{0};
  auto pool = MakeThreadPool(1, 8);
  REQUIRE_OK(pool->Schedule([&, gate = release.get_future().share()] {
    started.set_value();
    gate.wait_for(kPatience);
  }));
  REQUIRE(started.get_future().wait_for(kPatience) == std::future_status::ready);
  Loopback loopback([&](auto* context, const auto*, auto*) {
    return RunUnary(context, *pool, [&] {
      ++runs;
      return OkStatus();
    });
  });
  v1::RegisterResponse response;
  CHECK(loopback.Register({}, &response, {.timeout = absl::Milliseconds(100)}).code() ==
        StatusCode::kDeadlineExceeded);
  // The server has learnt of the cancellation once it has no call left to cancel.
  std::thread shutdown([&] { loopback.server->Shutdown(absl::ZeroDuration()); });
  release.set_value();
  shutdown.join();
  pool.reset();
  CHECK(runs.load() <= 1);  // 0 unless the task was taken before the cancellation arrived
}

TEST_CASE("rpc: UNAVAILABLE is retried as often as allowed, other codes are not", "[unit][rpc]") {
  std::atomic<int> calls{0};
  Loopback loopback([&](auto*, const auto* request, auto*) {
    const int number = ++calls;
    if (request->name() == "always") return Answer(Unavailable("not yet"));
    if (request->name() == "twice") return Answer(number < 3 ? Unavailable("not yet") : OkStatus());
    return Answer(ResourceExhausted("full"));
  });
  v1::RegisterResponse response;
  REQUIRE_OK(loopback.Register(Named("twice"), &response, {.max_attempts = 3}));
  CHECK(calls.exchange(0) == 3);
  CHECK(loopback.Register(Named("always"), &response, {.max_attempts = 2}).code() ==
        StatusCode::kUnavailable);
  CHECK(calls.exchange(0) == 2);
  CHECK(loopback.Register(Named("always"), &response).code() == StatusCode::kUnavailable);
  CHECK(calls.exchange(0) == 1);
  CHECK(loopback.Register(Named("full"), &response, {.max_attempts = 5}).code() ==
        StatusCode::kResourceExhausted);
  CHECK(calls.exchange(0) == 1);
}

TEST_CASE("rpc: a server that starts later is reached by the same channel", "[unit][rpc]") {
  ScriptedFleet service([](auto*, const auto*, auto*) { return Answer(OkStatus()); });
  std::string address;
  {
    REQUIRE_OK_AND_ASSIGN(const auto first, RpcServer::Start({}, {&service}));
    address = first->address();
  }
  REQUIRE_OK_AND_ASSIGN(const auto channel, MakeChannel(address));
  const auto stub = v1::FleetService::NewStub(channel);
  v1::RegisterResponse response;
  CHECK(Call(*stub, &FleetStub::Register, v1::RegisterRequest(), &response).code() ==
        StatusCode::kUnavailable);
  REQUIRE_OK_AND_ASSIGN(const auto second,
                        RpcServer::Start({.listen_address = address}, {&service}));
  REQUIRE_OK(
      Call(*stub, &FleetStub::Register, v1::RegisterRequest(), &response, {.max_attempts = 20}));
}

TEST_CASE("rpc: a message beyond the bound is refused, one below passes", "[unit][rpc]") {
  Loopback loopback([](auto*, const auto* request, auto* response) {
    response->set_worker_id(std::to_string(request->name().size()));
    return Answer(OkStatus());
  });
  v1::RegisterResponse response;
  REQUIRE_OK(loopback.Register(Named(std::string(kMaxMessageBytes - 1024, 'x')), &response));
  CHECK(response.worker_id() == std::to_string(kMaxMessageBytes - 1024));
  CHECK(loopback.Register(Named(std::string(kMaxMessageBytes + 1, 'x')), &response).code() ==
        StatusCode::kResourceExhausted);
}

TEST_CASE("rpc: shutdown lets a running call end and refuses new ones", "[unit][rpc]") {
  std::promise<PendingUnary*> arrived;
  Loopback loopback([&](auto*, const auto*, auto* response) {
    response->set_worker_id("in time");
    auto* call = new PendingUnary();
    arrived.set_value(call);
    return call;
  });
  v1::RegisterResponse response;
  auto running = std::async(std::launch::async, [&] { return loopback.Register({}, &response); });
  PendingUnary* call = arrived.get_future().get();
  auto shutdown =
      std::async(std::launch::async, [&] { loopback.server->Shutdown(absl::Seconds(20)); });
  call->Finish(OkStatus());
  REQUIRE(shutdown.wait_for(kPatience) == std::future_status::ready);
  REQUIRE_OK(running.get());
  CHECK(response.worker_id() == "in time");
  CHECK(loopback.Register({}, &response).code() == StatusCode::kUnavailable);
  loopback.server->Shutdown(absl::ZeroDuration());
}

TEST_CASE("rpc: shutdown cancels what does not end within the grace", "[unit][rpc]") {
  auto pending = std::make_shared<std::promise<PendingUnary*>>();
  const std::shared_future<PendingUnary*> call = pending->get_future().share();
  Loopback loopback([&](auto*, const auto*, auto*) {
    auto* made = new PendingUnary([call] { call.get()->Finish(Cancelled("server stops")); });
    pending->set_value(made);
    return made;
  });
  v1::RegisterResponse response;
  auto running = std::async(std::launch::async, [&] { return loopback.Register({}, &response); });
  call.wait();
  loopback.server->Shutdown(absl::Milliseconds(20));
  REQUIRE(running.wait_for(kPatience) == std::future_status::ready);
  CHECK_FALSE(running.get().ok());
}

TEST_CASE("rpc: a wide bind and a distant peer need TLS", "[unit][rpc]") {
  for (const char* address : {"0.0.0.0:0", "[::]:0", "192.0.2.1:7700", "example.com:7700"}) {
    INFO(address);
    const Status server = RpcServer::Start({.listen_address = address}, {}).status();
    CHECK(server.code() == StatusCode::kInvalidArgument);
    CHECK(Message(server).find("without TLS") != std::string::npos);
  }
  CHECK(MakeChannel("192.0.2.1:7700").status().code() == StatusCode::kInvalidArgument);
  CHECK(MakeChannel("example.com:7700").status().code() == StatusCode::kInvalidArgument);
  CHECK(MakeChannel("127.0.0.1:0").status().code() == StatusCode::kInvalidArgument);
  CHECK(MakeChannel("nonsense").status().code() == StatusCode::kInvalidArgument);
  REQUIRE_OK(MakeChannel("localhost:7700").status());
}

TEST_CASE("rpc: TLS files are all named and readable, or refused", "[unit][rpc]") {
  const TlsOptions partial{.ca_file = "ca.pem", .certificate_file = "", .key_file = ""};
  const TlsOptions missing{.ca_file = "no.pem", .certificate_file = "no.pem", .key_file = "no.pem"};
  const TlsOptions key_only{.ca_file = "", .certificate_file = "", .key_file = "key.pem"};
  for (const TlsOptions& tls : {partial, missing, key_only}) {
    CHECK(RpcServer::Start({.listen_address = "127.0.0.1:0", .tls = tls}, {}).status().code() ==
          StatusCode::kInvalidArgument);
    CHECK(MakeChannel("127.0.0.1:7700", tls).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("rpc: a port in use is an error that says so", "[unit][rpc]") {
  ScriptedFleet service([](auto*, const auto*, auto*) { return Answer(OkStatus()); });
  REQUIRE_OK_AND_ASSIGN(const auto first, RpcServer::Start({}, {&service}));
  const Status second = RpcServer::Start({.listen_address = first->address()}, {&service}).status();
  CHECK(second.code() == StatusCode::kUnavailable);
  CHECK(Message(second).find("cannot listen on " + first->address() + ": address in use") == 0);
}

}  // namespace
}  // namespace rollcall
