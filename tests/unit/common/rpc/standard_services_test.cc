// Health and reflection, and mutual TLS with certificates made by openssl.
#include <cstdlib>
#include <future>
#include <string>

#include <grpcpp/generic/generic_stub.h>

#include "services/base/net/address.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"
#include "services/common/rpc/unary.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/common/rpc/fleet_fixture.h"

namespace rollcall {
namespace {

using testing::ScriptedFleet;

ScriptedFleet OkFleet() {
  return ScriptedFleet([](auto*, const auto*, auto*) {
    auto* call = new PendingUnary();
    call->Finish(OkStatus());
    return call;
  });
}

// grpc.health.v1.HealthCheckResponse of an empty request, raw: field 1 is the status, 1 = SERVING.
StatusOr<std::string> RawHealth(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  v1::LeaveRequest request;    // empty on the wire, as is a HealthCheckRequest for ""
  v1::LeaveResponse response;  // keeps the unknown field
  grpc::TemplatedGenericStub<v1::LeaveRequest, v1::LeaveResponse> stub(channel);
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  ROLLCALL_RETURN_IF_ERROR(FromGrpc(done.get_future().get()));
  return response.SerializeAsString();
}

TEST_CASE("rpc: the health service follows SetServing", "[unit][rpc]") {
  ScriptedFleet service = OkFleet();
  REQUIRE_OK_AND_ASSIGN(const auto server, RpcServer::Start({}, {&service}));
  REQUIRE_OK_AND_ASSIGN(const auto channel, MakeChannel(server->address()));
  REQUIRE_OK_AND_ASSIGN(const std::string serving, RawHealth(channel));
  CHECK(serving == "\x08\x01");
  server->SetServing(false);
  REQUIRE_OK_AND_ASSIGN(const std::string not_serving, RawHealth(channel));
  CHECK(not_serving == "\x08\x02");
  server->SetServing(true);
  REQUIRE_OK_AND_ASSIGN(const std::string again, RawHealth(channel));
  CHECK(again == serving);
}

// A CA, and a certificate of it for 127.0.0.1. False when openssl is missing.
bool MakeCertificates(const testing::TempDir& dir, const std::string& name) {
  const std::string prefix = dir.File(name);
  const std::string script =
      "set -e; exec 2>/dev/null; cd '" + dir.path().string() + "'; N=" + name +
      "; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
      "-subj /CN=$N-ca -keyout $N-ca.key -out $N-ca.pem; "
      "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$N "
      "-keyout $N.key -out $N.csr; "
      "echo subjectAltName=IP:127.0.0.1 > $N.ext; "
      "openssl x509 -req -in $N.csr -CA $N-ca.pem -CAkey $N-ca.key -CAcreateserial -days 2 "
      "-extfile $N.ext -out $N.pem";
  return std::system(script.c_str()) == 0;
}

TlsOptions FilesOf(const testing::TempDir& dir, const std::string& ca, const std::string& name) {
  return {.ca_file = dir.File(ca + "-ca.pem"),
          .certificate_file = dir.File(name + ".pem"),
          .key_file = dir.File(name + ".key")};
}

TEST_CASE("rpc: with TLS both sides must hold a certificate of the CA", "[unit][rpc]") {
  const testing::TempDir dir;
  if (!MakeCertificates(dir, "ours") || !MakeCertificates(dir, "theirs")) {
    WARN("[skipped] openssl cannot make certificates here");
    return;
  }
  ScriptedFleet service = OkFleet();
  const TlsOptions ours = FilesOf(dir, "ours", "ours");
  REQUIRE_OK_AND_ASSIGN(const auto server, RpcServer::Start({.tls = ours}, {&service}));

  const auto call = [&](const TlsOptions& tls) {
    const auto channel = MakeChannel(server->address(), tls);
    if (!channel.ok()) return channel.status();
    const auto stub = v1::FleetService::NewStub(*channel);
    v1::RegisterResponse response;
    return Call(*stub, &v1::FleetService::Stub::Register, v1::RegisterRequest(), &response);
  };
  REQUIRE_OK(call(ours));
  CHECK(call({}).code() == StatusCode::kUnavailable);
  // Trusts the server, but brings a certificate of another CA.
  CHECK(call(FilesOf(dir, "ours", "theirs")).code() == StatusCode::kUnavailable);
  // Does not trust the server.
  CHECK(call(FilesOf(dir, "theirs", "theirs")).code() == StatusCode::kUnavailable);

  REQUIRE_OK_AND_ASSIGN(const auto wide,
                        RpcServer::Start({.listen_address = "0.0.0.0:0", .tls = ours}, {&service}));
  REQUIRE_OK_AND_ASSIGN(const HostPort dialled, ParseHostPort(wide->address()));
  CHECK_FALSE(IsWildcard(dialled.host));
}

}  // namespace
}  // namespace rollcall
