// Runs a part of a test in a child process: to kill it, or to bound its files.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <utility>

#include <sys/resource.h>
#include <sys/wait.h>

#include "services/base/status/status.h"

namespace rollcall::testing {

// A pipe to a child that runs `fn(write end)` and ends. Fork from a single-threaded test only.
class Child {
 public:
  explicit Child(const std::function<void(int fd)>& fn) {
    int ends[2];
    ROLLCALL_CHECK(pipe(ends) == 0);
    pid_ = fork();
    ROLLCALL_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      close(ends[0]);
      fn(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    fd_ = ends[0];
  }
  ~Child() {
    Kill();
    close(fd_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // The next line that the child wrote, without its end; empty at the end.
  std::string ReadLine() {
    std::string line;
    char c = 0;
    while (true) {
      const ssize_t got = read(fd_, &c, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0 || c == '\n') return line;
      line += c;
    }
  }
  // Kills it at once, whatever it does, and waits for its end.
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
};

inline void WriteLine(int fd, std::string line) {
  for (char& c : line) c = c == '\n' ? ' ' : c;
  line += "\n";
  ROLLCALL_CHECK(write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}

// No file of this process may grow past `bytes`: writing fails as on a full disk.
inline void LimitFileSize(rlim_t bytes) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ROLLCALL_CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  limit.rlim_cur = bytes;
  ROLLCALL_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}
inline void LiftFileSizeLimit() { LimitFileSize(RLIM_INFINITY); }

}  // namespace rollcall::testing
