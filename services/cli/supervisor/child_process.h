// A child process: start, last words, end. For a program with one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "services/base/status/status.h"

namespace rollcall {

struct CommandLine {
  std::vector<std::string> arguments;                            // the program first, by path
  std::vector<std::pair<std::string, std::string>> environment;  // on top of ours
};

// Killed and reaped by the destructor when it still runs.
class ChildProcess {
 public:
  // In a process group of its own (Ctrl-C at the terminal goes to the parent alone), with
  // /dev/null as input, and output going into a pipe that never blocks the child. The child is
  // killed by the kernel when the parent dies. kNotFound, kPermissionDenied: no such program.
  static StatusOr<std::unique_ptr<ChildProcess>> Start(const CommandLine& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  uint64_t start_ticks() const { return start_ticks_; }
  // Readable when the child wrote something.
  int output_fd() const { return output_fd_; }
  // Takes what the child wrote; only the end is kept.
  void DrainOutput();
  // False once the child closed its output: there is nothing to wait for.
  bool is_output_open() const { return is_output_open_; }
  // The last line that the child wrote, without line end; empty when it said nothing.
  std::string LastLine();

  // Does nothing after the end.
  void Signal(int signal_number);
  // How it ended ("exit code 1", "killed by signal 9 (Killed)") once it did. Does not wait.
  std::optional<std::string> PollEnd();
  bool ended() const { return end_.has_value(); }

 private:
  ChildProcess(pid_t pid, int output_fd);

  const pid_t pid_;
  const uint64_t start_ticks_;
  const int output_fd_;
  std::string output_;
  bool is_output_open_ = true;
  std::optional<std::string> end_;
};

}  // namespace rollcall
