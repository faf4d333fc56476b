#include "services/cli/copy_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <vector>

#include <sys/syscall.h>

#include "services/base/status/errno_text.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

namespace fs = std::filesystem;

Status ErrnoStatus(int error, const std::string& what) {
  const std::string message = what + ": " + ErrnoText(error);
  switch (error) {
    case ENOENT:
      return NotFound(message);
    case EEXIST:
    case ENOTEMPTY:
      return AlreadyExists(message);
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(message);
    default:
      return FailedPrecondition(message);
  }
}

Status CopyFile(const std::string& from, const std::string& to) {
  const int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return ErrnoStatus(errno, "cannot read " + from);
  const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (out < 0) {
    const int error = errno;
    close(in);
    return ErrnoStatus(error, "cannot write " + to);
  }
  Status status;
  std::vector<char> buffer(1 << 20);
  while (status.ok()) {
    const ssize_t got = read(in, buffer.data(), buffer.size());
    if (got == 0) break;
    if (got < 0) {
      if (errno != EINTR) status = ErrnoStatus(errno, "cannot read " + from);
      continue;
    }
    for (ssize_t done = 0; status.ok() && done < got;) {
      const ssize_t put = write(out, buffer.data() + done, got - done);
      if (put < 0 && errno != EINTR) status = ErrnoStatus(errno, "cannot write " + to);
      if (put > 0) done += put;
    }
  }
  if (status.ok() && fsync(out) != 0) status = ErrnoStatus(errno, "cannot write " + to);
  close(in);
  if (close(out) != 0 && status.ok()) status = ErrnoStatus(errno, "cannot write " + to);
  return status;
}

}  // namespace

Status CopyDirectoryAtomic(const std::string& from, const std::string& to,
                           const CopyDirectoryOptions& options) {
  std::error_code error;
  if (!fs::is_directory(from, error)) return NotFound(from + ": no such directory");
  if (fs::symlink_status(to, error).type() != fs::file_type::not_found) {
    return AlreadyExists(to + " exists already\nname a new directory, or remove that one");
  }
  const fs::path target = fs::absolute(to, error).lexically_normal();
  const fs::path parent =
      target.has_filename() ? target.parent_path() : target.parent_path().parent_path();
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(parent.string()));
  std::string temporary = (parent / ".rollcall-export-XXXXXX").string();
  if (mkdtemp(temporary.data()) == nullptr) {
    return ErrnoStatus(errno, "cannot make a directory in " + parent.string());
  }
  const auto fill = [&]() -> Status {
    for (const fs::directory_entry& entry : fs::directory_iterator(from, error)) {
      const std::string name = entry.path().filename().string();
      if (!entry.is_regular_file() || (options.keeps && !options.keeps(name))) continue;
      ROLLCALL_RETURN_IF_ERROR(CopyFile(entry.path().string(), temporary + "/" + name));
    }
    if (error) return FailedPrecondition("cannot read " + from + ": " + error.message());
    if (options.add) ROLLCALL_RETURN_IF_ERROR(options.add(temporary));
    fs::permissions(temporary,
                    fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec |
                        fs::perms::others_read | fs::perms::others_exec,
                    error);
    ROLLCALL_RETURN_IF_ERROR(SyncDirectory(temporary));
    // Unlike rename(2) this never replaces an empty directory that appeared meanwhile.
    if (syscall(SYS_renameat2, AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(),
                RENAME_NOREPLACE) != 0) {
      return ErrnoStatus(errno, "cannot make " + to);
    }
    return SyncDirectory(parent.string());
  };
  const Status status = fill();
  if (!status.ok()) fs::remove_all(temporary, error);
  return status;
}

}  // namespace rollcall
