#include "services/common/storage/files.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include <sys/stat.h>

namespace rollcall {
namespace {

// Closes the descriptor unless it was closed by hand.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  int Close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

Status FromErrno(int error, const std::string& verb, const std::string& path) {
  const std::string message =
      "cannot " + verb + " '" + path + "': " + std::generic_category().message(error);
  switch (error) {
    case ENOENT:
      return NotFound(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return MakeStatus(StatusCode::kPermissionDenied, message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return ResourceExhausted(message);
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EINVAL:
    case EEXIST:
      return InvalidArgument(message);
    case EIO:
      return DataLoss(message);
    default:
      return Internal(message);
  }
}

int OpenRetrying(const char* path, int flags, mode_t mode = 0) {
  int fd = -1;
  do {
    fd = ::open(path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return FromErrno(errno, "write", path);
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

Status WriteAndSync(const std::string& path, std::span<const std::string_view> pieces) {
  Descriptor fd(OpenRetrying(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  if (fd.get() < 0) return FromErrno(errno, "create", path);
  for (std::string_view piece : pieces) {
    ROLLCALL_RETURN_IF_ERROR(WriteAll(fd.get(), piece, path));
  }
  if (::fsync(fd.get()) != 0) return FromErrno(errno, "sync", path);
  // Network file systems report a full disk here.
  if (fd.Close() != 0) return FromErrno(errno, "close", path);
  return OkStatus();
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Two threads may write the same path: each gets a file of its own, the last rename wins.
std::string TemporaryName(const std::string& path) {
  static std::atomic<uint64_t> next{0};
  return path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(next.fetch_add(1));
}

}  // namespace

StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  const Descriptor fd(OpenRetrying(path.c_str(), O_RDONLY));
  if (fd.get() < 0) return FromErrno(errno, "open", path);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return FromErrno(errno, "stat", path);
  if (S_ISDIR(info.st_mode)) return FromErrno(EISDIR, "read", path);
  const Status too_large = ResourceExhausted("'" + path + "' is larger than the limit of " +
                                             std::to_string(max_bytes) + " bytes");
  if (info.st_size > 0 && static_cast<uint64_t>(info.st_size) > max_bytes) return too_large;

  // The size is only a hint: files of /proc report 0, and a file may grow while it is read.
  std::string content;
  size_t used = 0;
  content.resize(std::max<size_t>(static_cast<size_t>(info.st_size) + 1, 4096));
  while (true) {
    if (used == content.size()) content.resize(content.size() * 2);
    const ssize_t got = ::read(fd.get(), content.data() + used, content.size() - used);
    if (got < 0) {
      if (errno == EINTR) continue;
      return FromErrno(errno, "read", path);
    }
    if (got == 0) break;
    used += static_cast<size_t>(got);
    if (used > max_bytes) return too_large;
  }
  content.resize(used);
  return content;
}

Status WriteFileAtomic(const std::string& path, std::string_view content) {
  return WritePiecesAtomic(path, std::span(&content, 1));
}

Status WritePiecesAtomic(const std::string& path, std::span<const std::string_view> pieces) {
  const std::string temporary = TemporaryName(path);
  Status status = WriteAndSync(temporary, pieces);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = FromErrno(errno, "rename to", path);
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(ParentOf(path));
}

Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FromErrno(error.value(), "make directory", path);
  return OkStatus();
}

Status SyncDirectory(const std::string& path) {
  const Descriptor fd(OpenRetrying(path.c_str(), O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) return FromErrno(errno, "open directory", path);
  // Some file systems cannot sync a directory and say EINVAL; renames are ordered there anyway.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return FromErrno(errno, "sync directory", path);
  return OkStatus();
}

Hash128 HashBytes128(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  Hash128 hash;
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), hash.begin());
  return hash;
}

uint64_t HashBytes64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string HexString(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

}  // namespace rollcall
