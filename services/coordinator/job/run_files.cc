#include "services/coordinator/job/run_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/stat.h>

#include "services/base/status/errno_text.h"
#include "services/common/storage/files.h"

namespace rollcall::coordinator {
namespace {

Status FileError(const std::string& path, const char* what, int error) {
  const std::string message = path + ": " + what + ": " + ErrnoText(error);
  const bool is_full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return is_full ? ResourceExhausted(message) : Unavailable(message);
}

class RunFilesImpl final : public RunFiles {
 public:
  RunFilesImpl(Executor& executor, RunFilesFailure on_failure)
      : executor_(executor), on_failure_(std::move(on_failure)) {}

  void AppendLine(JobNumber job, const std::string& path, std::string line) override {
    Run(job, path, [path, line = std::move(line)] { return AppendLineToFile(path, line); });
  }

  void Replace(JobNumber job, const std::string& path, std::function<std::string()> make) override {
    Run(job, path, [path, make = std::move(make)] { return WriteFileAtomic(path, make()); });
  }

 private:
  void Run(JobNumber job, const std::string& path, std::function<Status()> fn) {
    const Status scheduled = executor_.Schedule([this, job, fn = std::move(fn)] {
      const Status status = fn();
      if (!status.ok()) on_failure_(job, status);
    });
    if (scheduled.code() == StatusCode::kResourceExhausted) {
      on_failure_(job, ResourceExhausted(path + ": the disk cannot keep up with the writes"));
    }
  }

  Executor& executor_;
  const RunFilesFailure on_failure_;
};

}  // namespace

Status AppendLineToFile(const std::string& path, const std::string& line) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(path, "cannot open", errno);
  const std::string text = line + "\n";
  const off_t start = lseek(fd, 0, SEEK_END);
  size_t written = 0;
  Status status;
  while (written < text.size()) {
    const ssize_t n = write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      status = FileError(path, "cannot write", n < 0 ? errno : ENOSPC);
      // A torn line would break every reader; the whole ones before it stay.
      if (written > 0 && ftruncate(fd, start) != 0) {
        status = FileError(path, "cannot take a torn line back", errno);
      }
      break;
    }
    written += static_cast<size_t>(n);
  }
  if (close(fd) != 0 && status.ok()) status = FileError(path, "cannot close", errno);
  return status;
}

std::unique_ptr<RunFiles> MakeRunFiles(Executor& executor, RunFilesFailure on_failure) {
  return std::make_unique<RunFilesImpl>(executor, std::move(on_failure));
}

}  // namespace rollcall::coordinator
