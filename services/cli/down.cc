#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "services/cli/cluster_state.h"
#include "services/cli/verbs.h"
#include "services/common/config/duration_text.h"

namespace rollcall {
namespace {

struct Target {
  std::string name;
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  bool is_alive() const { return IsAlive(pid, start_ticks); }
};

// True when all are gone before the deadline.
bool WaitUntilGone(const std::vector<Target>& targets, absl::Time deadline) {
  while (true) {
    bool any = false;
    for (const Target& target : targets) any = any || target.is_alive();
    if (!any) return true;
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
}

void SignalAll(const std::vector<Target>& targets, int number) {
  for (const Target& target : targets) {
    if (target.is_alive()) kill(target.pid, number);
  }
}

Status Report(const Context& context, const std::string& text, int num_killed) {
  if (context.flags.json) {
    PrintLine(nlohmann::ordered_json{{"result", text}, {"killed", num_killed}}.dump());
  } else {
    PrintLine(text);
  }
  return OkStatus();
}

Status Down(const Context& context, const std::string& grace_text) {
  StatusOr<absl::Duration> grace = ParseDurationText(grace_text);
  if (!grace.ok()) return Annotate(grace.status(), "--grace");
  const std::string& state_dir = context.flags.state_dir;
  const StatusOr<ClusterState> state = LoadClusterState(state_dir);
  if (state.status().code() == StatusCode::kNotFound) {
    return Report(context, "no cluster is running in " + state_dir, 0);
  }
  ROLLCALL_RETURN_IF_ERROR(state.status());

  const Target supervisor{"supervisor", state->supervisor_pid, state->supervisor_start_ticks};
  std::vector<Target> processes;
  for (const ClusterProcess& process : state->processes) {
    processes.push_back({process.name, process.pid, process.start_ticks});
  }
  const bool was_supervised = supervisor.is_alive();
  if (was_supervised) {
    SignalAll({supervisor}, SIGTERM);
    SignalAll({supervisor}, SIGCONT);
    // The supervisor drains its children itself; a little longer than its own deadline.
    if (WaitUntilGone({supervisor}, absl::Now() + *grace + absl::Seconds(5))) {
      return Report(context,
                    fmt::format("cluster stopped: {} processes, coordinator {}", processes.size(),
                                state->coordinator),
                    0);
    }
    SignalAll({supervisor}, SIGKILL);
  } else {
    SignalAll(processes, SIGTERM);
    SignalAll(processes, SIGCONT);
    WaitUntilGone(processes, absl::Now() + *grace);
  }
  int num_killed = was_supervised ? 1 : 0;
  for (const Target& process : processes) num_killed += process.is_alive() ? 1 : 0;
  SignalAll(processes, SIGKILL);
  processes.push_back(supervisor);
  const bool all_gone = WaitUntilGone(processes, absl::Now() + absl::Seconds(5));
  unlink(ClusterStatePath(state_dir).c_str());
  if (!all_gone) {
    return Internal(
        "some processes do not end even when killed\nsee `ps` for processes named "
        "rollcall-*");
  }
  return Report(context,
                was_supervised
                    ? fmt::format("cluster stopped; {} processes had to be killed", num_killed)
                    : fmt::format("the supervisor was gone already; removed its state, killed {} "
                                  "processes",
                                  num_killed),
                num_killed);
}

}  // namespace

void AddDown(CLI::App& app, Context& context) {
  auto grace = std::make_shared<std::string>("10s");
  CLI::App* verb = app.add_subcommand("down", "Stop the local cluster");
  verb->add_option("--grace", *grace, "Longest wait before processes are killed")
      ->capture_default_str();
  verb->callback(
      [&context, grace] { context.action = [&context, grace] { return Down(context, *grace); }; });
}

}  // namespace rollcall
