#include "services/cli/supervisor/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "absl/time/clock.h"
#include "services/base/net/address.h"
#include "services/base/status/errno_text.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

// Ready files are looked for this often; nothing else tells when they appear.
constexpr absl::Duration kReadyPoll = absl::Milliseconds(5);
constexpr absl::Duration kIdlePoll = absl::Milliseconds(500);

sigset_t SupervisedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  sigaddset(&signals, SIGCHLD);
  return signals;
}

ProcessSpec MakeSpec(const SupervisorOptions& options, const std::string& name,
                     const std::string& role, const std::string& listen) {
  ProcessSpec spec;
  spec.name = name;
  spec.role = role;
  spec.ready_file = options.state_dir + "/ready/" + name + ".json";
  spec.log_file = options.state_dir + "/logs/" + name + ".log";
  spec.command.arguments = {options.program_dir + "/rollcall-" + role,
                            "--name",
                            name,
                            "--listen",
                            listen,
                            "--metrics-listen",
                            "127.0.0.1:0",
                            "--log-file",
                            spec.log_file,
                            "--log-level",
                            options.log_level,
                            "--ready-file",
                            spec.ready_file,
                            "--exit-with-parent"};
  // Processes of one machine share its cores; more threads than one would fight over them.
  const std::string threads = std::to_string(options.threads);
  spec.command.environment = {{"OMP_NUM_THREADS", threads}, {"MKL_NUM_THREADS", threads}};
  return spec;
}

// Binds once by hand: gRPC would share the port with another server of ours.
Status CheckPortFree(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Internal("cannot make a socket: " + ErrnoText(errno));
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool is_free = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  close(fd);
  if (is_free) return OkStatus();
  return FailedPrecondition("port " + std::to_string(port) +
                            " cannot be used: " + ErrnoText(error) +
                            "\nchoose another with --port, or --port 0 for any free one");
}

std::string Seconds(absl::Duration duration) { return absl::FormatDuration(duration); }

}  // namespace

ProcessSpec CoordinatorSpec(const SupervisorOptions& options, int port) {
  ProcessSpec spec = MakeSpec(options, "coordinator", "coordinator",
                              JoinHostPort({.host = "127.0.0.1", .port = port}));
  spec.command.arguments.insert(spec.command.arguments.end(), {"--state-dir", options.state_dir});
  return spec;
}

std::vector<ProcessSpec> WorkerSpecs(const SupervisorOptions& options,
                                     const std::string& coordinator) {
  std::vector<ProcessSpec> specs;
  const auto add = [&](const std::string& role, int count) {
    for (int i = 0; i < count; ++i) {
      specs.push_back(MakeSpec(options, role + "-" + std::to_string(i), role, "127.0.0.1:0"));
      auto& arguments = specs.back().command.arguments;
      arguments.insert(arguments.end(), {"--coordinator", coordinator});
    }
  };
  add("rollout", options.num_rollout_workers);
  add("reward", options.num_reward_servers);
  add("learner", options.num_learners);
  return specs;
}

struct Supervisor::Process {
  explicit Process(const RestartOptions& restart) : policy(restart) {}

  ProcessSpec spec;
  RestartPolicy policy;
  std::unique_ptr<ChildProcess> child;  // null while it is down
  absl::Time ready_deadline;
  absl::Time restart_at = absl::InfiniteFuture();
  absl::Time stopped_since = absl::InfiniteFuture();
  size_t index = 0;  // into state_.processes

  bool is_up() const { return child != nullptr; }
};

Supervisor::Supervisor(const SupervisorOptions& options, Logger& logger)
    : options_(options), logger_(logger) {
  const sigset_t signals = SupervisedSignals();
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  ROLLCALL_CHECK(signal_fd_ >= 0, "signalfd");
  state_.supervisor_pid = getpid();
  state_.supervisor_start_ticks = ProcessStartTicks(getpid());
}

Supervisor::~Supervisor() {
  Stop();
  close(signal_fd_);
}

Status Supervisor::StartProcess(Process& process) {
  unlink(process.spec.ready_file.c_str());
  StatusOr<std::unique_ptr<ChildProcess>> child = ChildProcess::Start(process.spec.command);
  if (!child.ok()) {
    return FailedPrecondition(Message(child.status()) +
                              "\nthe daemons must lie beside the rollcall program; `./dev build` "
                              "builds them");
  }
  process.child = std::move(child).value();
  process.restart_at = absl::InfiniteFuture();
  process.stopped_since = absl::InfiniteFuture();
  const absl::Time now = absl::Now();
  process.ready_deadline = now + options_.start_timeout;
  process.policy.Started(now);
  ClusterProcess& entry = state_.processes[process.index];
  entry.pid = process.child->pid();
  entry.start_ticks = process.child->start_ticks();
  entry.state = "starting";
  entry.restarts = process.policy.num_restarts();
  return OkStatus();
}

Status Supervisor::StartCoordinator() {
  if (options_.port != 0) {
    ROLLCALL_RETURN_IF_ERROR(CheckPortFree(options_.port));
  }
  processes_[0]->spec = CoordinatorSpec(options_, options_.port);
  ROLLCALL_RETURN_IF_ERROR(StartProcess(*processes_[0]));
  ROLLCALL_RETURN_IF_ERROR(WaitUntilReady(absl::Now() + options_.start_timeout));
  state_.coordinator = state_.processes[0].address;
  // Whatever happens, it comes back where everybody looks for it.
  ROLLCALL_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(state_.coordinator));
  processes_[0]->spec = CoordinatorSpec(options_, address.port);
  return OkStatus();
}

Status Supervisor::Start() {
  const auto add = [this](const ProcessSpec& spec) {
    auto process = std::make_unique<Process>(options_.restart);
    process->spec = spec;
    process->index = processes_.size();
    processes_.push_back(std::move(process));
    state_.processes.push_back(
        {.name = spec.name, .role = spec.role, .state = "starting", .log_file = spec.log_file});
  };
  const auto start_all = [&]() -> Status {
    ROLLCALL_RETURN_IF_ERROR(MakeDirectories(options_.state_dir + "/ready"));
    ROLLCALL_RETURN_IF_ERROR(MakeDirectories(options_.state_dir + "/logs"));
    add(CoordinatorSpec(options_, options_.port));
    ROLLCALL_RETURN_IF_ERROR(StartCoordinator());
    for (const ProcessSpec& spec : WorkerSpecs(options_, state_.coordinator)) {
      add(spec);
      ROLLCALL_RETURN_IF_ERROR(StartProcess(*processes_.back()));
    }
    ROLLCALL_RETURN_IF_ERROR(WaitUntilReady(absl::Now() + options_.start_timeout));
    return SaveClusterState(options_.state_dir, state_);
  };
  const Status status = start_all();
  if (!status.ok()) Stop();
  return status;
}

Status Supervisor::WaitUntilReady(absl::Time deadline) {
  while (true) {
    bool all_ready = true;
    for (const auto& process : processes_) {
      if (!process->is_up()) continue;
      if (const std::optional<std::string> how = process->child->PollEnd(); how.has_value()) {
        const std::string last_line = process->child->LastLine();
        return FailedPrecondition(process->spec.name + " ended while starting (" + *how + ")" +
                                  (last_line.empty() ? "" : ": " + last_line) + "\nsee " +
                                  process->spec.log_file);
      }
      all_ready = CheckReady(*process) && all_ready;
    }
    if (all_ready) return OkStatus();
    if (absl::Now() >= deadline) {
      std::string missing;
      for (const auto& process : processes_) {
        if (state_.processes[process->index].state == "running") continue;
        missing += (missing.empty() ? "" : ", ") + process->spec.name;
      }
      return FailedPrecondition("not ready after " + Seconds(options_.start_timeout) + ": " +
                                missing + "\nsee " + options_.state_dir +
                                "/logs, or give more time with --start-timeout");
    }
    if (Wait(absl::Now() + kReadyPoll)) return Cancelled("interrupted while starting");
  }
}

bool Supervisor::CheckReady(Process& process) {
  ClusterProcess& entry = state_.processes[process.index];
  if (entry.state == "running") return true;
  constexpr uint64_t kMaxBytes = 64 << 10;
  const StatusOr<std::string> text = ReadFile(process.spec.ready_file, kMaxBytes);
  if (!text.ok()) return false;
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("pid", 0) != process.child->pid()) return false;
  entry.address = json.value("address", "");
  entry.metrics_address = json.value("metrics_address", "");
  entry.state = "running";
  return true;
}

Status Supervisor::HandleEnd(Process& process, const std::string& how) {
  ClusterProcess& entry = state_.processes[process.index];
  const std::string last_line = process.child->LastLine();
  process.child.reset();
  entry.pid = 0;
  entry.start_ticks = 0;
  const std::string what = process.spec.name + " ended (" + how + ")";
  const std::optional<absl::Time> restart_at = process.policy.Ended(absl::Now());
  if (restart_at.has_value()) {
    process.restart_at = *restart_at;
    entry.state = "restarting";
    logger_.Warning(what + ", restarting it delay=" + Seconds(*restart_at - absl::Now()) +
                    " restarts=" + std::to_string(process.policy.num_restarts()) +
                    (last_line.empty() ? "" : " last_line=\"" + last_line + "\""));
    return OkStatus();
  }
  entry.state = "failed";
  const std::string error = "crash loop: " + process.spec.name + " ended " +
                            std::to_string(options_.restart.max_restarts) + " times within " +
                            Seconds(options_.restart.window) + ", last with " + how +
                            (last_line.empty() ? "" : ": " + last_line) + "\nsee " +
                            process.spec.log_file;
  logger_.Error(error);
  const bool has_another =
      std::any_of(processes_.begin(), processes_.end(), [&](const auto& other) {
        return other->spec.role == process.spec.role && other.get() != &process &&
               state_.processes[other->index].state != "failed";
      });
  return has_another ? OkStatus() : FailedPrecondition(error);
}

void Supervisor::ReplaceStopped(Process& process) {
  // A debugger's stop is 't'; that one is wanted.
  if (ProcessStateLetter(process.child->pid()) != 'T') {
    process.stopped_since = absl::InfiniteFuture();
    return;
  }
  const absl::Time now = absl::Now();
  process.stopped_since = std::min(process.stopped_since, now);
  if (now - process.stopped_since < options_.stopped_timeout) return;
  logger_.Warning(process.spec.name + " has been stopped (SIGSTOP) too long, killing it after=" +
                  Seconds(options_.stopped_timeout));
  process.child->Signal(SIGKILL);
}

Status Supervisor::Tick() {
  const absl::Time now = absl::Now();
  const std::string before = ClusterStateToJson(state_);
  Status status;
  for (const auto& process : processes_) {
    ClusterProcess& entry = state_.processes[process->index];
    if (process->is_up()) {
      process->child->DrainOutput();
      if (const std::optional<std::string> how = process->child->PollEnd(); how.has_value()) {
        if (const Status ended = HandleEnd(*process, *how); !ended.ok()) status = ended;
        continue;
      }
      ReplaceStopped(*process);
      if (entry.state != "starting") continue;
      if (CheckReady(*process)) {
        logger_.Info(process->spec.name + " is running again pid=" + std::to_string(entry.pid));
      } else if (now >= process->ready_deadline) {
        logger_.Warning(process->spec.name + " was not ready in time, killing it");
        process->child->Signal(SIGKILL);
        process->ready_deadline = absl::InfiniteFuture();
      }
    } else if (now >= process->restart_at) {
      if (const Status started = StartProcess(*process); !started.ok()) {
        logger_.Error(Message(started));
        const std::optional<absl::Time> again = process->policy.Ended(now);
        if (!again.has_value()) return started;
        process->restart_at = *again;
      }
    }
  }
  if (ClusterStateToJson(state_) != before) Save();
  return status;
}

Status Supervisor::Run() {
  Status status;
  while (status.ok()) {
    absl::Time wake = absl::Now() + kIdlePoll;
    for (const auto& process : processes_) {
      wake = std::min(wake, process->restart_at);
      if (state_.processes[process->index].state == "starting") {
        wake = std::min(wake, absl::Now() + kReadyPoll);
      }
    }
    if (Wait(wake)) break;
    status = Tick();
  }
  Stop();
  return status;
}

bool Supervisor::Wait(absl::Time until) {
  std::vector<pollfd> fds = {{.fd = signal_fd_, .events = POLLIN, .revents = 0}};
  for (const auto& process : processes_) {
    if (process->is_up() && process->child->is_output_open()) {
      fds.push_back({.fd = process->child->output_fd(), .events = POLLIN, .revents = 0});
    }
  }
  const int64_t timeout_ms =
      std::clamp<int64_t>(absl::ToInt64Milliseconds(until - absl::Now()) + 1, 0, 1000);
  poll(fds.data(), fds.size(), static_cast<int>(timeout_ms));
  for (const auto& process : processes_) {
    if (process->is_up()) process->child->DrainOutput();
  }
  signalfd_siginfo info{};
  while (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT || info.ssi_signo == SIGHUP) {
      ++num_stop_requests_;
    }
  }
  return num_stop_requests_ > 0;
}

void Supervisor::StopGroup(const std::function<bool(const Process&)>& belongs,
                           absl::Time deadline) {
  bool any_up = false;
  for (const auto& process : processes_) {
    if (!process->is_up() || !belongs(*process)) continue;
    any_up = true;
    process->child->Signal(SIGTERM);
    process->child->Signal(SIGCONT);
  }
  bool killed = false;
  while (any_up) {
    any_up = false;
    const bool is_late = absl::Now() >= deadline || num_stop_requests_ > 1;
    for (const auto& process : processes_) {
      if (!process->is_up() || !belongs(*process)) continue;
      process->child->DrainOutput();
      if (process->child->PollEnd().has_value()) {
        process->child.reset();
        continue;
      }
      any_up = true;
      if (!killed && is_late) {
        logger_.Warning(process->spec.name + " did not stop in time, killing it");
        process->child->Signal(SIGKILL);
      }
    }
    killed = killed || is_late;
    if (any_up) Wait(absl::Now() + absl::Milliseconds(20));
  }
}

void Supervisor::Stop() {
  if (processes_.empty()) return;
  const absl::Time begin = absl::Now();
  for (const auto& process : processes_) process->restart_at = absl::InfiniteFuture();
  // Workers first: they hand their leases back to a coordinator that is still there.
  StopGroup([](const Process& process) { return process.spec.role != "coordinator"; },
            begin + options_.grace * 0.7);
  StopGroup([](const Process&) { return true; }, begin + options_.grace);
  for (const auto& process : processes_) unlink(process->spec.ready_file.c_str());
  unlink(ClusterStatePath(options_.state_dir).c_str());
  processes_.clear();
  state_.processes.clear();
}

void Supervisor::Save() {
  const Status status = SaveClusterState(options_.state_dir, state_);
  // A full disk must not take the cluster down; the file is for people.
  if (!status.ok()) logger_.Warning("cannot write the cluster state: " + Message(status));
}

}  // namespace rollcall
