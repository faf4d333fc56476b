#include "services/coordinator/journal/state_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <sys/file.h>

#include "services/base/status/errno_text.h"
#include "services/common/storage/files.h"

namespace rollcall::coordinator {

StatusOr<std::unique_ptr<StateLock>> StateLock::Acquire(const std::string& directory) {
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string path = directory + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return Unavailable(path + ": cannot open: " + ErrnoText(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(fd);
    if (error == EWOULDBLOCK) {
      return Unavailable(directory + ": another coordinator runs on this state directory");
    }
    return Unavailable(path + ": cannot lock: " + ErrnoText(error));
  }
  return std::unique_ptr<StateLock>(new StateLock(fd));
}

StateLock::~StateLock() { close(fd_); }

}  // namespace rollcall::coordinator
