// The supervisor over shell scripts that behave as the daemons do towards it.
#include "services/cli/supervisor/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/time/clock.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

// Writes the ready file and waits to be ended.
constexpr char kGoodDaemon[] = R"(#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    --ready-file) ready=$2 ;;
    --listen) listen=$2 ;;
  esac
  shift
done
case $listen in *:0) listen=127.0.0.1:45678 ;; esac
printf '{"address":"%s","metrics_address":"127.0.0.1:9","pid":%d}' $listen $$ > $ready.tmp
mv $ready.tmp $ready
exec sleep 60
)";
constexpr char kBrokenDaemon[] = "#!/bin/sh\necho 'model.safetensors: truncated' >&2\nexit 7\n";

class Cluster {
 public:
  Cluster() {
    // As rollcall up does; the test binary has one thread.
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    for (const char* role : {"coordinator", "rollout", "reward", "learner"}) {
      Install(role, kGoodDaemon);
    }
    std::filesystem::create_directory(dir_.File("state"));
    options.program_dir = dir_.path().string();
    options.state_dir = dir_.File("state");
    options.port = 0;
    options.num_rollout_workers = 1;
    options.num_learners = 1;
    options.start_timeout = absl::Seconds(10);
    options.grace = absl::Seconds(2);
    options.restart.first_delay = absl::Milliseconds(1);
  }

  void Install(const std::string& role, const char* script) {
    const std::string path = dir_.Write("rollcall-" + role, script);
    std::filesystem::permissions(path, std::filesystem::perms(0755));
  }

  SupervisorOptions options;
  NullLogger logger;

 private:
  testing::TempDir dir_;
};

const ClusterProcess& Find(const ClusterState& state, const std::string& name) {
  for (const ClusterProcess& process : state.processes) {
    if (process.name == name) return process;
  }
  FAIL("no process " << name);
  return state.processes[0];
}

TEST_CASE("Supervisor: starts all, writes them down, and stops all on SIGTERM", "[unit][cli]") {
  Cluster cluster;
  Supervisor supervisor(cluster.options, cluster.logger);
  REQUIRE_OK(supervisor.Start());
  REQUIRE_OK_AND_ASSIGN(const ClusterState written, LoadClusterState(cluster.options.state_dir));
  CHECK(written.supervisor_pid == getpid());
  CHECK(written.coordinator == "127.0.0.1:45678");
  REQUIRE(written.processes.size() == 4);
  for (const char* name : {"coordinator", "rollout-0", "reward-0", "learner-0"}) {
    const ClusterProcess& process = Find(written, name);
    CHECK(process.state == "running");
    CHECK(process.metrics_address == "127.0.0.1:9");
    CHECK(IsAlive(process.pid, process.start_ticks));
  }
  kill(getpid(), SIGTERM);
  REQUIRE_OK(supervisor.Run());
  for (const ClusterProcess& process : written.processes) {
    CHECK_FALSE(IsAlive(process.pid, process.start_ticks));
  }
  CHECK(LoadClusterState(cluster.options.state_dir).status().code() == StatusCode::kNotFound);
}

TEST_CASE("Supervisor: a process that ends while starting is named with its last words",
          "[unit][cli]") {
  Cluster cluster;
  cluster.Install("reward", kBrokenDaemon);
  Supervisor supervisor(cluster.options, cluster.logger);
  const Status status = supervisor.Start();
  CHECK(status.code() == StatusCode::kFailedPrecondition);
  CHECK(Message(status) ==
        "reward-0 ended while starting (exit code 7): model.safetensors: truncated\nsee " +
            cluster.options.state_dir + "/logs/reward-0.log");
  CHECK(supervisor.state().processes.empty());
}

TEST_CASE("Supervisor: a missing program and a used port are named", "[unit][cli]") {
  Cluster cluster;
  {
    SupervisorOptions options = cluster.options;
    options.program_dir = "/nowhere";
    Supervisor supervisor(options, cluster.logger);
    CHECK(Message(supervisor.Start()).find("/nowhere/rollcall-coordinator") != std::string::npos);
  }
  const int taken = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(taken, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(listen(taken, 1) == 0);
  socklen_t size = sizeof(address);
  getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size);
  SupervisorOptions options = cluster.options;
  options.port = ntohs(address.sin_port);
  Supervisor supervisor(options, cluster.logger);
  CHECK(Message(supervisor.Start()) ==
        "port " + std::to_string(options.port) +
            " cannot be used: Address already in use\nchoose another with --port, or --port 0 for "
            "any free one");
  close(taken);
}

TEST_CASE("Supervisor: a process that never is ready ends the start in time", "[unit][cli]") {
  Cluster cluster;
  cluster.Install("learner", "#!/bin/sh\nexec sleep 60\n");
  cluster.options.start_timeout = absl::Milliseconds(300);
  Supervisor supervisor(cluster.options, cluster.logger);
  CHECK(Message(supervisor.Start()).find("not ready after 300ms: learner-0\n") == 0);
}

TEST_CASE("Supervisor: what dies is started again under the same name", "[unit][cli]") {
  Cluster cluster;
  Supervisor supervisor(cluster.options, cluster.logger);
  REQUIRE_OK(supervisor.Start());
  const ClusterState before = supervisor.state();
  // Run() is ended by a child of ours that watches cluster.json, so that the test has one thread.
  const pid_t parent = getpid();
  const pid_t watcher = fork();
  if (watcher == 0) {
    for (const ClusterProcess& process : before.processes) kill(process.pid, SIGKILL);
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    bool all_back = false;
    while (!all_back && absl::Now() < deadline) {
      const StatusOr<ClusterState> now = LoadClusterState(cluster.options.state_dir);
      all_back = now.ok();
      for (size_t i = 0; now.ok() && i < before.processes.size(); ++i) {
        const ClusterProcess& process = now->processes[i];
        all_back = all_back && process.pid != before.processes[i].pid &&
                   process.state == "running" && process.restarts == 1;
      }
      usleep(2000);
    }
    std::ofstream(cluster.options.state_dir + "/verdict") << (all_back ? "back" : "lost");
    kill(parent, SIGTERM);
    _exit(0);
  }
  REQUIRE_OK(supervisor.Run());
  std::string verdict;
  std::ifstream(cluster.options.state_dir + "/verdict") >> verdict;
  CHECK(verdict == "back");
}

TEST_CASE("Supervisor: a crash loop of the last process of a role ends the cluster by name",
          "[unit][cli]") {
  Cluster cluster;
  cluster.options.restart.max_restarts = 3;
  Supervisor supervisor(cluster.options, cluster.logger);
  REQUIRE_OK(supervisor.Start());
  const ClusterProcess reward = Find(supervisor.state(), "reward-0");
  cluster.Install("reward", kBrokenDaemon);
  kill(reward.pid, SIGKILL);
  const Status status = supervisor.Run();
  CHECK(Message(status) ==
        "crash loop: reward-0 ended 3 times within 1m, last with exit code 7: "
        "model.safetensors: truncated\nsee " +
            cluster.options.state_dir + "/logs/reward-0.log");
}

TEST_CASE("Supervisor: a process that stands stopped is replaced", "[unit][cli]") {
  Cluster cluster;
  cluster.options.stopped_timeout = absl::Milliseconds(10);
  Supervisor supervisor(cluster.options, cluster.logger);
  REQUIRE_OK(supervisor.Start());
  const ClusterProcess stopped = Find(supervisor.state(), "rollout-0");
  kill(stopped.pid, SIGSTOP);
  const pid_t parent = getpid();
  const pid_t watcher = fork();
  if (watcher == 0) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (IsAlive(stopped.pid, stopped.start_ticks) && absl::Now() < deadline) usleep(2000);
    kill(parent, SIGTERM);
    _exit(0);
  }
  REQUIRE_OK(supervisor.Run());
  CHECK_FALSE(IsAlive(stopped.pid, stopped.start_ticks));
}

TEST_CASE("ClusterLock: one supervisor in a directory", "[unit][cli]") {
  const testing::TempDir dir;
  REQUIRE_OK_AND_ASSIGN(auto first, ClusterLock::TryAcquire(dir.path().string()));
  REQUIRE(first != nullptr);
  REQUIRE_OK_AND_ASSIGN(auto second, ClusterLock::TryAcquire(dir.path().string()));
  CHECK(second == nullptr);
  first.reset();
  REQUIRE_OK_AND_ASSIGN(auto third, ClusterLock::TryAcquire(dir.path().string()));
  CHECK(third != nullptr);
  CHECK_FALSE(ClusterLock::TryAcquire(dir.File("absent")).ok());
}

TEST_CASE("ClusterState: written and read back, broken files are named", "[unit][cli]") {
  ClusterState state;
  state.supervisor_pid = 12;
  state.supervisor_start_ticks = 34;
  state.coordinator = "127.0.0.1:7700";
  state.processes.push_back({.name = "rollout-0",
                             .role = "rollout",
                             .pid = 5,
                             .start_ticks = 6,
                             .address = "a:1",
                             .metrics_address = "b:2",
                             .state = "running",
                             .restarts = 3,
                             .log_file = "/x/rollout-0.log"});
  REQUIRE_OK_AND_ASSIGN(const ClusterState again,
                        ParseClusterState(ClusterStateToJson(state), "cluster.json"));
  CHECK(ClusterStateToJson(again) == ClusterStateToJson(state));
  for (const char* bad : {"", "{}", "[1]", "{\"pid\": \"x\"}"}) {
    const Status status = ParseClusterState(bad, "cluster.json").status();
    CHECK(status.code() == StatusCode::kDataLoss);
    CHECK(Message(status).find("cluster.json: not a cluster state") == 0);
  }
  CHECK_FALSE(IsAlive(getpid(), 1));
  CHECK(IsAlive(getpid(), ProcessStartTicks(getpid())));
  CHECK(ProcessStartTicks(-1) == 0);
}

}  // namespace
}  // namespace rollcall
