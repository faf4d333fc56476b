// The client against a scripted coordinator in this process.
#include "services/common/fleet/fleet_client.h"

#include <functional>
#include <string>
#include <vector>

#include "rollcall/v1/fleet.grpc.pb.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/server.h"
#include "services/common/rpc/unary.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Hands out ids w1, w2, ... and knows only the last one.
class FakeCoordinator final : public v1::FleetService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext*,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override {
    MutexLock lock(mu_);
    last_registration_ = *request;
    known_ = "w" + std::to_string(++num_registrations_);
    response->set_worker_id(known_);
    response->mutable_heartbeat_interval()->set_nanos(10'000'000);
    changed_.NotifyAll();
    return Answer(OkStatus());
  }

  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext*,
                                      const v1::HeartbeatRequest* request,
                                      v1::HeartbeatResponse* response) override {
    MutexLock lock(mu_);
    changed_.NotifyAll();
    if (request->worker_id() != known_) return Answer(Aborted("fenced"));
    last_heartbeat_ = *request;
    ++num_heartbeats_;
    response->set_drain(drain_);
    if (!ended_jobs_.empty()) {
      response->mutable_ended_job_ids()->Add(ended_jobs_.begin(), ended_jobs_.end());
      ended_jobs_.clear();
    }
    return Answer(OkStatus());
  }

  grpc::ServerUnaryReactor* Leave(grpc::CallbackServerContext*, const v1::LeaveRequest* request,
                                  v1::LeaveResponse*) override {
    MutexLock lock(mu_);
    left_.push_back(request->worker_id());
    return Answer(OkStatus());
  }

  void Forget() {
    MutexLock lock(mu_);
    known_.clear();
  }
  void Drain(std::vector<std::string> ended_jobs) {
    MutexLock lock(mu_);
    drain_ = true;
    ended_jobs_ = std::move(ended_jobs);
  }

  bool WaitForHeartbeats(int at_least) {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return num_heartbeats_ >= at_least; });
  }
  bool WaitForHeartbeat(const std::function<bool(const v1::HeartbeatRequest&)>& matches) {
    return Wait([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return matches(last_heartbeat_); });
  }
  int num_heartbeats() const {
    MutexLock lock(mu_);
    return num_heartbeats_;
  }
  v1::RegisterRequest last_registration() const {
    MutexLock lock(mu_);
    return last_registration_;
  }
  std::vector<std::string> left() const {
    MutexLock lock(mu_);
    return left_;
  }

 private:
  static grpc::ServerUnaryReactor* Answer(const Status& status) {
    auto* call = new PendingUnary();
    call->Finish(status);
    return call;
  }

  template <typename Condition>
  bool Wait(Condition condition) {
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(mu_);
    while (!condition()) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(mu_, left);
    }
    return true;
  }

  mutable Mutex mu_;
  CondVar changed_;
  std::string known_ ABSL_GUARDED_BY(mu_);
  int num_registrations_ ABSL_GUARDED_BY(mu_) = 0;
  int num_heartbeats_ ABSL_GUARDED_BY(mu_) = 0;
  v1::RegisterRequest last_registration_ ABSL_GUARDED_BY(mu_);
  v1::HeartbeatRequest last_heartbeat_ ABSL_GUARDED_BY(mu_);
  bool drain_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::string> ended_jobs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> left_ ABSL_GUARDED_BY(mu_);
};

// Counts warnings, and waits for lines.
class RecordingLogger final : public Logger {
 public:
  void Log(LogLevel level, std::string_view message) override {
    MutexLock lock(mu_);
    lines_.emplace_back(message);
    if (level == LogLevel::kWarning) ++num_warnings_;
    changed_.NotifyAll();
  }
  bool WaitFor(const std::string& text) {
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(mu_);
    while (true) {
      for (const std::string& line : lines_) {
        if (line.find(text) != std::string::npos) return true;
      }
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(mu_, left);
    }
  }
  int num_warnings() const {
    MutexLock lock(mu_);
    return num_warnings_;
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
  int num_warnings_ ABSL_GUARDED_BY(mu_) = 0;
};

struct Cluster {
  Cluster() { Restart("127.0.0.1:0"); }
  void Restart(const std::string& address) {
    server.reset();
    auto started = RpcServer::Start({.listen_address = address}, {&coordinator});
    REQUIRE_OK(started.status());
    server = *std::move(started);
  }
  std::unique_ptr<FleetClient> Join(
      std::function<void(const std::vector<std::string>&)> on_jobs_ended = nullptr) {
    auto channel = MakeChannel(server->address());
    REQUIRE_OK(channel.status());
    return FleetClient::Start({.role = Role::kReward,
                               .name = "reward-0",
                               .address = "127.0.0.1:1",
                               .metrics_address = "127.0.0.1:2"},
                              *channel, logger, std::move(on_jobs_ended));
  }

  RecordingLogger logger;
  FakeCoordinator coordinator;
  std::unique_ptr<RpcServer> server;
};

TEST_CASE("FleetClient: registers what the process is", "[unit][fleet]") {
  Cluster cluster;
  const auto client = cluster.Join();
  CHECK(client->worker_id(kPatience) == "w1");
  const v1::RegisterRequest request = cluster.coordinator.last_registration();
  CHECK(request.role() == v1::PROCESS_ROLE_REWARD);
  CHECK(request.name() == "reward-0");
  CHECK(request.address() == "127.0.0.1:1");
  CHECK(request.metrics_address() == "127.0.0.1:2");
  CHECK(request.pid() > 0);
}

TEST_CASE("FleetClient: heartbeats carry phase, job and progress", "[unit][fleet]") {
  Cluster cluster;
  const auto client = cluster.Join();
  client->SetPhase("scoring", "job-1");
  client->Progress();
  client->Progress();
  CHECK(cluster.coordinator.WaitForHeartbeat([](const v1::HeartbeatRequest& heartbeat) {
    return heartbeat.phase() == "scoring" && heartbeat.job_id() == "job-1" &&
           heartbeat.progress() == 3;
  }));
  CHECK(cluster.coordinator.WaitForHeartbeats(cluster.coordinator.num_heartbeats() + 3));
}

TEST_CASE("FleetClient: registers again when it was fenced", "[unit][fleet]") {
  Cluster cluster;
  const auto client = cluster.Join();
  REQUIRE(client->worker_id(kPatience) == "w1");
  REQUIRE(cluster.coordinator.WaitForHeartbeats(1));
  cluster.coordinator.Forget();
  CHECK(cluster.coordinator.WaitForHeartbeat(
      [](const v1::HeartbeatRequest& heartbeat) { return heartbeat.worker_id() == "w2"; }));
  CHECK(client->worker_id(kPatience) == "w2");
}

TEST_CASE("FleetClient: Invalidate acts on the current id only", "[unit][fleet]") {
  Cluster cluster;
  const auto client = cluster.Join();
  REQUIRE(client->worker_id(kPatience) == "w1");
  client->Invalidate("w0");
  client->Invalidate("");
  CHECK(client->worker_id(absl::ZeroDuration()) == "w1");
  client->Invalidate("w1");
  CHECK(client->worker_id(kPatience) == "w2");
  client->Invalidate("w1");
  CHECK(client->worker_id(absl::ZeroDuration()) == "w2");
}

TEST_CASE("FleetClient: drain and ended jobs reach the process", "[unit][fleet]") {
  Cluster cluster;
  Mutex mu;
  CondVar changed;
  std::vector<std::string> ended;
  const auto client = cluster.Join([&](const std::vector<std::string>& jobs) {
    MutexLock lock(mu);
    ended = jobs;
    changed.NotifyAll();
  });
  REQUIRE(cluster.coordinator.WaitForHeartbeats(1));
  CHECK_FALSE(client->draining());
  cluster.coordinator.Drain({"job-1", "job-7"});
  const absl::Time deadline = absl::Now() + kPatience;
  MutexLock lock(mu);
  while (ended.empty() && absl::Now() < deadline) changed.WaitFor(mu, absl::Milliseconds(100));
  CHECK(ended == std::vector<std::string>{"job-1", "job-7"});
  CHECK(client->draining());
}

TEST_CASE("FleetClient: an absent coordinator is reported once and waited for", "[unit][fleet]") {
  Cluster cluster;
  const std::string address = cluster.server->address();
  const auto client = cluster.Join();
  REQUIRE(cluster.coordinator.WaitForHeartbeats(1));
  cluster.server.reset();
  REQUIRE(cluster.logger.WaitFor("no answer to the heartbeat"));
  const int heartbeats = cluster.coordinator.num_heartbeats();
  cluster.Restart(address);
  CHECK(cluster.coordinator.WaitForHeartbeats(heartbeats + 1));
  CHECK(cluster.logger.WaitFor("answers again"));
  CHECK(cluster.logger.num_warnings() == 1);
}

TEST_CASE("FleetClient: leaves when destroyed", "[unit][fleet]") {
  Cluster cluster;
  {
    const auto client = cluster.Join();
    REQUIRE(client->worker_id(kPatience) == "w1");
  }
  CHECK(cluster.coordinator.left() == std::vector<std::string>{"w1"});
}

TEST_CASE("FleetClient: without a coordinator there is no id and the end is quick",
          "[unit][fleet]") {
  RecordingLogger logger;
  REQUIRE_OK_AND_ASSIGN(const auto channel, MakeChannel("127.0.0.1:1"));
  const absl::Time start = absl::Now();
  {
    const auto client = FleetClient::Start({.name = "rollout-0"}, channel, logger, nullptr);
    REQUIRE(logger.WaitFor("cannot register"));
    CHECK(client->worker_id(absl::Milliseconds(1)).empty());
  }
  CHECK(absl::Now() - start < kPatience);
  CHECK(logger.num_warnings() == 1);
}

}  // namespace
}  // namespace rollcall
