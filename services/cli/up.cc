#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/wait.h>

#include "absl/time/clock.h"
#include "services/base/status/errno_text.h"
#include "services/cli/cluster_state.h"
#include "services/cli/supervisor/supervisor.h"
#include "services/cli/verbs.h"
#include "services/common/config/duration_text.h"
#include "services/common/storage/files.h"
#include "services/common/telemetry/logging.h"

namespace rollcall {
namespace {

struct UpFlags {
  SupervisorOptions supervisor;
  bool detach = false;
  std::string start_timeout = "60s";
  std::string grace = "10s";
};

Status AlreadyRunning(const std::string& state_dir) {
  const StatusOr<ClusterState> state = LoadClusterState(state_dir);
  if (!state.ok()) {
    return FailedPrecondition("a cluster is starting or stopping in " + state_dir +
                              "\nwait for it, or name another directory with --state-dir");
  }
  return FailedPrecondition(fmt::format(
      "a cluster is already running in {}: supervisor pid {}, coordinator {}\nstop it with "
      "`rollcall down`, or name another directory with --state-dir",
      state_dir, state->supervisor_pid, state->coordinator));
}

std::vector<std::string> Summary(const Context& context, const ClusterState& state) {
  const auto count = [&state](const char* role, const char* what) {
    int n = 0;
    for (const ClusterProcess& process : state.processes) n += process.role == role ? 1 : 0;
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  };
  return {fmt::format("cluster is up: coordinator {}, {}, {}, {}", state.coordinator,
                      count("rollout", "rollout worker"), count("reward", "reward server"),
                      count("learner", "learner rank")),
          fmt::format("  supervisor pid {}, logs in {}/logs; stop it with `rollcall down`",
                      state.supervisor_pid, context.flags.state_dir)};
}

void BlockSupervisedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// Runs the cluster in this process. `report` is called once, with the outcome of the start.
Status Supervise(const SupervisorOptions& options,
                 const std::function<void(const Status&, const ClusterState&)>& report) {
  // Before anything can end: a signal that comes early is not lost.
  BlockSupervisedSignals();
  const auto fail = [&report](Status status) {
    report(status, ClusterState());
    return status;
  };
  StatusOr<std::unique_ptr<ClusterLock>> lock = ClusterLock::TryAcquire(options.state_dir);
  if (!lock.ok()) return fail(lock.status());
  if (*lock == nullptr) return fail(AlreadyRunning(options.state_dir));
  if (Status status = MakeDirectories(options.state_dir + "/logs"); !status.ok()) {
    return fail(status);
  }
  StatusOr<std::unique_ptr<Logger>> logger =
      MakeLogger({.process = "supervisor",
                  .file = options.state_dir + "/logs/supervisor.log",
                  .level = options.log_level});
  if (!logger.ok()) return fail(logger.status());
  Supervisor supervisor(options, **logger);
  if (Status status = supervisor.Start(); !status.ok()) return fail(status);
  report(OkStatus(), supervisor.state());
  (*logger)->Info("cluster is up coordinator=" + supervisor.state().coordinator);
  const Status status = supervisor.Run();
  if (status.ok()) {
    (*logger)->Info("cluster stopped");
  } else {
    (*logger)->Error("cluster stopped: " + Message(status));
  }
  return status;
}

// The outcome of the start travels from the detached supervisor as one line of code and the
// message; an empty message is success.
std::string EncodeOutcome(const Status& status) {
  return std::to_string(static_cast<int>(status.code())) + "\n" + Message(status);
}

Status DecodeOutcome(const std::string& text) {
  const size_t end = text.find('\n');
  if (end == std::string::npos) {
    return Internal("the supervisor ended without a word\nsee logs/supervisor.log");
  }
  return MakeStatus(static_cast<StatusCode>(std::atoi(text.c_str())), text.substr(end + 1));
}

[[noreturn]] void RunDetached(const SupervisorOptions& options, int report_fd) {
  setsid();
  // Not a session leader any more: no terminal can ever become its own.
  const pid_t pid = fork();
  if (pid != 0) _exit(pid < 0 ? 1 : 0);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
  const Status status = Supervise(options, [&](const Status& outcome, const ClusterState&) {
    const std::string text = EncodeOutcome(outcome);
    const ssize_t ignored = write(report_fd, text.data(), text.size());
    (void)ignored;
    close(report_fd);
  });
  _exit(status.ok() ? 0 : 1);
}

Status Detach(const Context& context, const SupervisorOptions& options) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    return Internal("cannot make a pipe: " + ErrnoText(errno));
  }
  const pid_t pid = fork();
  if (pid < 0) return Internal("cannot fork: " + ErrnoText(errno));
  if (pid == 0) {
    close(report[0]);
    RunDetached(options, report[1]);
  }
  close(report[1]);
  waitpid(pid, nullptr, 0);

  // Twice, because the coordinator starts before the others; and the stop of a failed start.
  const absl::Time deadline =
      absl::Now() + options.start_timeout * 2 + options.grace + absl::Seconds(5);
  std::string outcome;
  while (true) {
    pollfd wait{.fd = report[0], .events = POLLIN, .revents = 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0) {
      close(report[0]);
      return DeadlineExceeded("the supervisor did not report in time\nsee " + options.state_dir +
                              "/logs/supervisor.log");
    }
    if (poll(&wait, 1, static_cast<int>(std::min<int64_t>(left_ms, 1000))) <= 0) continue;
    char buffer[4096];
    const ssize_t got = read(report[0], buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    outcome.append(buffer, got);
  }
  close(report[0]);
  ROLLCALL_RETURN_IF_ERROR(DecodeOutcome(outcome));
  ROLLCALL_ASSIGN_OR_RETURN(const ClusterState state, LoadClusterState(options.state_dir));
  if (context.flags.json) {
    Print(ClusterStateToJson(state));
  } else {
    PrintLines(Summary(context, state));
  }
  return OkStatus();
}

Status Up(const Context& context, UpFlags flags) {
  SupervisorOptions& options = flags.supervisor;
  options.program_dir = context.program_dir;
  options.state_dir = context.flags.state_dir;
  const auto duration = [](const char* flag, const std::string& text) {
    StatusOr<absl::Duration> value = ParseDurationText(text);
    if (!value.ok()) value = Annotate(value.status(), flag);
    return value;
  };
  ROLLCALL_ASSIGN_OR_RETURN(options.start_timeout,
                            duration("--start-timeout", flags.start_timeout));
  ROLLCALL_ASSIGN_OR_RETURN(options.grace, duration("--grace", flags.grace));
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(options.state_dir));
  if (flags.detach) return Detach(context, options);
  return Supervise(options, [&](const Status& outcome, const ClusterState& state) {
    if (!outcome.ok()) return;
    if (context.flags.json) {
      Print(ClusterStateToJson(state));
    } else {
      PrintLines(Summary(context, state));
    }
  });
}

}  // namespace

void AddUp(CLI::App& app, Context& context) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* verb = app.add_subcommand(
      "up", "Start a local cluster and keep it up, in the foreground or with --detach");
  SupervisorOptions& options = flags->supervisor;
  verb->add_flag("--detach,-d", flags->detach, "Supervise in the background");
  verb->add_option("--port", options.port, "Port of the coordinator; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb->add_option("--rollout-workers", options.num_rollout_workers, "Rollout workers")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--reward-servers", options.num_reward_servers, "Reward servers")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--learners", options.num_learners, "Learner ranks")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--threads", options.threads, "Compute threads of each process")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  verb->add_option("--start-timeout", flags->start_timeout,
                   "Longest wait for the processes to be ready")
      ->capture_default_str();
  verb->add_option("--grace", flags->grace, "Time to finish at the end before being killed")
      ->capture_default_str();
  verb->callback(
      [&context, flags] { context.action = [&context, flags] { return Up(context, *flags); }; });
}

}  // namespace rollcall
