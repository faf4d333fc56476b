#include "services/coordinator/worker/registry.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

v1::RegisterRequest Request(const std::string& name, v1::ProcessRole role) {
  v1::RegisterRequest request;
  request.set_name(name);
  request.set_role(role);
  request.set_host("host");
  request.set_pid(12);
  request.set_address("127.0.0.1:1");
  return request;
}

std::string Join(Registry& registry, const std::string& name, absl::Time now = kStart,
                 v1::ProcessRole role = v1::PROCESS_ROLE_ROLLOUT) {
  std::string replaced;
  REQUIRE_OK_AND_ASSIGN(Worker * worker, registry.Register(Request(name, role), now, &replaced));
  return worker->id;
}

v1::HeartbeatRequest Beat(const std::string& worker_id, const std::string& phase,
                          uint64_t progress) {
  v1::HeartbeatRequest request;
  request.set_worker_id(worker_id);
  request.set_phase(phase);
  request.set_progress(progress);
  return request;
}

TEST_CASE("Registry: a process that registers again replaces itself", "[unit][coordinator]") {
  Registry registry({}, 3);
  const std::string first = Join(registry, "rollout-0");
  CHECK(first == "w3-1");  // no id of an earlier coordinator
  std::string replaced;
  REQUIRE_OK_AND_ASSIGN(
      Worker * second,
      registry.Register(Request("rollout-0", v1::PROCESS_ROLE_LEARNER), kStart, &replaced));
  CHECK(replaced == first);
  CHECK(second->id == "w3-2");
  CHECK(registry.Find(first).status().code() == StatusCode::kAborted);
  CHECK(registry.CountRole(v1::PROCESS_ROLE_ROLLOUT) == 0);
  CHECK(registry.CountRole(v1::PROCESS_ROLE_LEARNER) == 1);
  CHECK(registry.workers().size() == 1);
}

TEST_CASE("Registry: broken registrations are refused and change nothing", "[unit][coordinator]") {
  Registry registry({.max_workers = 2}, 1);
  Join(registry, "rollout-0");
  std::string replaced;
  const auto refused = [&](const v1::RegisterRequest& request) {
    return registry.Register(request, kStart, &replaced).status();
  };
  CHECK(refused(Request("", v1::PROCESS_ROLE_ROLLOUT)).code() == StatusCode::kInvalidArgument);
  CHECK(Message(refused(Request(std::string(257, 'n'), v1::PROCESS_ROLE_ROLLOUT))) ==
        "name: 1 to 256 bytes are needed, got 257");
  for (const v1::ProcessRole role : {v1::PROCESS_ROLE_UNSPECIFIED, v1::PROCESS_ROLE_COORDINATOR,
                                     static_cast<v1::ProcessRole>(44)}) {
    CHECK(Message(refused(Request("rollout-0", role))) ==
          "role: rollout, reward or learner is needed");
  }
  Join(registry, "rollout-1");
  CHECK(refused(Request("rollout-2", v1::PROCESS_ROLE_ROLLOUT)).code() ==
        StatusCode::kResourceExhausted);
  Join(registry, "rollout-1");  // takes its own place
  CHECK(registry.workers().size() == 2);
}

TEST_CASE("Registry: silence is counted from the last sign of life", "[unit][coordinator]") {
  Registry registry({.heartbeat_timeout = absl::Seconds(5)}, 1);
  const std::string b = Join(registry, "b");
  const std::string a = Join(registry, "a");
  const std::string c = Join(registry, "c");
  const absl::Time later = kStart + absl::Seconds(5);
  CHECK(registry.Silent(later).empty());
  REQUIRE_OK(registry.Heartbeat(Beat(c, "idle", 0), later).status());
  const absl::Time over = later + absl::Nanoseconds(1);
  CHECK(registry.Silent(over) == std::vector<std::string>{a, b});
  // Any call is a sign of life.
  REQUIRE_OK(registry.Call(a, v1::PROCESS_ROLE_ROLLOUT, over).status());
  CHECK(registry.Silent(over) == std::vector<std::string>{b});
  registry.Forgive(absl::Seconds(60));
  CHECK(registry.Silent(over).empty());
  registry.Remove(b);
  registry.Remove(b);
  CHECK(registry.CountRole(v1::PROCESS_ROLE_ROLLOUT) == 2);
  CHECK(registry.Heartbeat(Beat(b, "idle", 0), over).status().code() == StatusCode::kAborted);
}

TEST_CASE("Registry: a call under another role is refused", "[unit][coordinator]") {
  Registry registry({}, 1);
  const std::string id = Join(registry, "rollout-0");
  const Status status = registry.Call(id, v1::PROCESS_ROLE_LEARNER, kStart).status();
  CHECK(status.code() == StatusCode::kPermissionDenied);
  CHECK(Message(status).find("rollout-0") != std::string::npos);
}

TEST_CASE("Registry: a beat without progress is life, not movement", "[unit][coordinator]") {
  Registry registry({}, 1);
  const std::string id = Join(registry, "learner-0", kStart, v1::PROCESS_ROLE_LEARNER);
  const auto moved_at = [&](const std::string& phase, uint64_t progress, int second) {
    const absl::Time now = kStart + absl::Seconds(second);
    REQUIRE_OK_AND_ASSIGN(Worker * worker, registry.Heartbeat(Beat(id, phase, progress), now));
    CHECK(worker->last_heartbeat == now);
    return absl::ToInt64Seconds(worker->last_movement - kStart);
  };
  CHECK(moved_at("backward", 7, 1) == 1);
  CHECK(moved_at("backward", 7, 2) == 1);
  CHECK(moved_at("backward", 8, 3) == 3);
  CHECK(moved_at("forward", 8, 4) == 4);
  CHECK(moved_at("forward", 8, 5) == 4);
  // A name that is too long to keep is no movement either.
  const std::string long_phase(1000, 'x');
  CHECK(moved_at(long_phase, 8, 6) == 6);
  CHECK(moved_at(long_phase, 8, 7) == 6);
}

TEST_CASE("Registry: text that is too long is cut between characters", "[unit][coordinator]") {
  Registry registry({}, 1);
  v1::RegisterRequest request = Request("rollout-0", v1::PROCESS_ROLE_ROLLOUT);
  std::string text(255, 'h');
  request.set_host(text + "\xC3\xA9\xC3\xA9");
  std::string replaced;
  REQUIRE_OK_AND_ASSIGN(Worker * worker, registry.Register(request, kStart, &replaced));
  CHECK(worker->host == text);
}

}  // namespace
}  // namespace rollcall::coordinator
