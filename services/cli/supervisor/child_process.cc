#include "services/cli/supervisor/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include <sys/prctl.h>
#include <sys/wait.h>

#include "services/base/status/errno_text.h"
#include "services/cli/cluster_state.h"

namespace rollcall {
namespace {

constexpr size_t kKeptOutput = 16 << 10;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Status ErrnoStatus(int error, const std::string& what) {
  const std::string message = what + ": " + ErrnoText(error);
  if (error == ENOENT) return NotFound(message);
  if (error == EACCES) return MakeStatus(StatusCode::kPermissionDenied, message);
  return Internal(message);
}

// Runs in the child between fork and exec: async-signal-safe calls only.
[[noreturn]] void Exec(pid_t parent, int null_fd, int output_fd, int error_fd, char* const* argv,
                       char* const* envp) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before prctl
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  dup2(null_fd, STDIN_FILENO);
  dup2(output_fd, STDOUT_FILENO);
  dup2(output_fd, STDERR_FILENO);
  execve(argv[0], argv, envp);
  const int error = errno;
  const ssize_t ignored = write(error_fd, &error, sizeof(error));
  (void)ignored;
  _exit(127);
}

std::vector<std::string> MergedEnvironment(
    const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    bool is_changed = false;
    for (const auto& [key, value] : changes) is_changed = is_changed || key == name;
    if (!is_changed) merged.push_back(text);
  }
  for (const auto& [key, value] : changes) merged.push_back(key + "=" + value);
  return merged;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const CommandLine& command) {
  ROLLCALL_CHECK(!command.arguments.empty(), "no program");
  int output[2];
  int error[2];
  if (pipe2(output, O_CLOEXEC | O_NONBLOCK) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  const FileDescriptor output_write(output[1]);
  FileDescriptor output_read(output[0]);
  if (pipe2(error, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  FileDescriptor error_write(error[1]);
  const FileDescriptor error_read(error[0]);
  const FileDescriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null.get() < 0) return ErrnoStatus(errno, "cannot open /dev/null");

  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment = MergedEnvironment(command.environment);
  const std::vector<char*> argv = Pointers(arguments);
  const std::vector<char*> envp = Pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "cannot start " + command.arguments[0]);
  if (pid == 0) {
    Exec(parent, null.get(), output_write.get(), error_write.get(), argv.data(), envp.data());
  }
  close(error_write.Release());
  // The pipe closes by itself when exec succeeds.
  int exec_error = 0;
  ssize_t got;
  do {
    got = read(error_read.get(), &exec_error, sizeof(exec_error));
  } while (got < 0 && errno == EINTR);
  if (got == sizeof(exec_error)) {
    waitpid(pid, nullptr, 0);
    return ErrnoStatus(exec_error, "cannot start " + command.arguments[0]);
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, output_read.Release()));
}

ChildProcess::ChildProcess(pid_t pid, int output_fd)
    : pid_(pid), start_ticks_(ProcessStartTicks(pid)), output_fd_(output_fd) {}

ChildProcess::~ChildProcess() {
  if (!ended()) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(output_fd_);
}

void ChildProcess::DrainOutput() {
  char buffer[4096];
  // Bounded, so that a child that writes without end does not keep the caller here.
  for (int i = 0; i < 64; ++i) {
    const ssize_t got = read(output_fd_, buffer, sizeof(buffer));
    if (got == 0) is_output_open_ = false;
    if (got <= 0) return;
    output_.append(buffer, got);
    if (output_.size() > kKeptOutput) output_.erase(0, output_.size() - kKeptOutput);
  }
}

std::string ChildProcess::LastLine() {
  DrainOutput();
  std::string text = output_;
  text.erase(text.find_last_not_of(" \r\n") + 1);
  const size_t begin = text.rfind('\n');
  return begin == std::string::npos ? text : text.substr(begin + 1);
}

void ChildProcess::Signal(int signal_number) {
  if (!ended()) kill(pid_, signal_number);
}

std::optional<std::string> ChildProcess::PollEnd() {
  if (ended()) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    end_ = "killed by signal " + std::to_string(number) + " (" + strsignal(number) + ")";
  } else {
    end_ = "exit code " + std::to_string(WEXITSTATUS(status));
  }
  return end_;
}

}  // namespace rollcall
