#include "services/common/data/parquet_program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include <sys/wait.h>

#include "services/common/text/utf8.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace rollcall {
namespace {

constexpr char kProgram[] = "rollcall-parquet";
constexpr size_t kPieceBytes = 1 << 16;
constexpr size_t kMaxErrorBytes = 4 << 10;

class FileDescriptor {
 public:
  FileDescriptor() = default;
  ~FileDescriptor() { Close(); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  int* address() { return &fd_; }
  bool open() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

struct Pipe {
  FileDescriptor reads;
  FileDescriptor writes;
  bool Make() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return false;
    *reads.address() = ends[0];
    *writes.address() = ends[1];
    return true;
  }
};

// Killed when it was not waited for.
class Child {
 public:
  Child() = default;
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // 0, or the error number.
  int Start(const std::vector<std::string>& arguments, Pipe& output, Pipe& errors) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output.writes.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, errors.writes.get(), STDERR_FILENO);
    // Signals that a daemon blocks or ignores must reach the child as usual.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigaddset(&signals, SIGPIPE);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    const int error = posix_spawn(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) pid_ = -1;
    return error;
  }

  int Wait() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

// One read; closes at the end of the stream.
std::string_view ReadSome(FileDescriptor& fd, std::vector<char>& buffer) {
  const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
  if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) fd.Close();
  return {buffer.data(), count > 0 ? static_cast<size_t>(count) : 0};
}

std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const size_t begin = text.rfind('\n');
  return ReplaceInvalidUtf8(begin == std::string::npos ? text : text.substr(begin + 1));
}

std::string SignalText(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? "signal " + std::to_string(number) : "SIG" + std::string(name);
}

Status EndOf(int status, const std::string& errors) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return OkStatus();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 1 && !errors.empty()) {
    return InvalidArgument(errors);
  }
  if (WIFSIGNALED(status)) {
    return InvalidArgument("the Parquet reader crashed on this file (" +
                           SignalText(WTERMSIG(status)) + "): it is damaged, or no Parquet file");
  }
  return Internal(std::string(kProgram) + " failed: " +
                  (errors.empty() ? "exit code " + std::to_string(WEXITSTATUS(status)) : errors));
}

}  // namespace

StatusOr<std::string> FindParquetProgram() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path folder = self.parent_path();
    for (const std::filesystem::path& place : {folder, folder.parent_path() / "bin"}) {
      std::string program = (place / kProgram).string();
      if (access(program.c_str(), X_OK) == 0) return program;
    }
  }
  return FailedPrecondition("this build cannot read Parquet: there is no " + std::string(kProgram) +
                            " beside " + self.string() +
                            "; build again after ./dev setup, which installs Arrow, or store the "
                            "rows as JSONL");
}

Status RunParquetProgram(const std::string& path, const ParquetRun& run,
                         const std::function<Status(std::string_view piece)>& read) {
  std::string program = run.program;
  if (program.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(program, FindParquetProgram());
  }
  Pipe output;
  Pipe errors;
  if (!output.Make() || !errors.Make()) {
    return ResourceExhausted(std::string("no pipe: ") + std::generic_category().message(errno));
  }
  Child child;
  const int start_error =
      child.Start({program, "--max-rows", std::to_string(run.max_rows), "--max-row-bytes",
                   std::to_string(run.max_row_bytes), "--", path},
                  output, errors);
  if (start_error != 0) {
    return FailedPrecondition("this build cannot read Parquet: " + program + ": " +
                              std::generic_category().message(start_error));
  }
  output.writes.Close();
  errors.writes.Close();

  std::vector<char> buffer(kPieceBytes);
  std::string error_text;
  while (output.reads.open() || errors.reads.open()) {
    std::array<pollfd, 2> waits{pollfd{output.reads.get(), POLLIN, 0},
                                pollfd{errors.reads.get(), POLLIN, 0}};
    const int ready =
        poll(waits.data(), waits.size(), static_cast<int>(absl::ToInt64Milliseconds(run.patience)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      return Internal(std::string(kProgram) + " wrote nothing for " +
                      absl::FormatDuration(run.patience) + " and was stopped");
    }
    if (waits[0].revents != 0) ROLLCALL_RETURN_IF_ERROR(read(ReadSome(output.reads, buffer)));
    if (waits[1].revents != 0) {
      const std::string_view piece = ReadSome(errors.reads, buffer);
      error_text += piece.substr(0, kMaxErrorBytes - std::min(kMaxErrorBytes, error_text.size()));
    }
  }
  return EndOf(child.Wait(), LastLine(std::move(error_text)));
}

}  // namespace rollcall
