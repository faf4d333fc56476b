#include "services/weight_sync/shared_memory.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "services/base/runtime/random.h"
#include "services/common/storage/files.h"
#include "services/weight_sync/weight_store.h"

namespace rollcall {
namespace {

constexpr std::string_view kPrefix = "rollcall-";
constexpr char kDirectory[] = "/dev/shm";
constexpr int kCreateAttempts = 8;

Status FromErrno(int error, const std::string& verb, const std::string& name) {
  const std::string message =
      "cannot " + verb + " shared memory " + name + ": " + std::generic_category().message(error);
  switch (error) {
    case ENOENT:
      return NotFound(message);
    case EACCES:
    case EPERM:
      return MakeStatus(StatusCode::kPermissionDenied, message);
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EFBIG:
    case EDQUOT:
      return ResourceExhausted(message);
    default:
      return Unavailable(message);
  }
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Unique among the objects of this process, and unlikely to meet one of a namesake in another pid
// namespace that shares /dev/shm.
std::string MakeName(int64_t policy_version, int attempt) {
  const std::array<uint64_t, 3> words = {
      static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()),
      static_cast<uint64_t>(policy_version), static_cast<uint64_t>(attempt)};
  std::array<char, 16> hex{};
  const auto end = std::to_chars(hex.data(), hex.data() + hex.size(), MixKey(words), 16).ptr;
  return "/" + std::string(kPrefix) + std::to_string(::getpid()) + "-" +
         std::string(hex.data(), end) + "-v" + std::to_string(policy_version);
}

bool IsOurName(std::string_view name) {
  return name.size() > 1 && name.size() < 255 && name.front() == '/' &&
         name.substr(1, kPrefix.size()) == kPrefix && name.find('/', 1) == std::string_view::npos;
}

// write() and not a mapping: a full /dev/shm is an error here and a SIGBUS there.
Status WriteAll(int fd, std::span<const std::byte> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FromErrno(errno, "write", name);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return OkStatus();
}

// The process that made the object; nothing when the name is not one of ours.
std::optional<pid_t> OwnerOf(std::string_view file_name) {
  if (!file_name.starts_with(kPrefix)) return std::nullopt;
  file_name.remove_prefix(kPrefix.size());
  pid_t pid = 0;
  const auto [end, error] =
      std::from_chars(file_name.data(), file_name.data() + file_name.size(), pid);
  const bool complete =
      error == std::errc() && end != file_name.data() + file_name.size() && *end == '-' && pid > 0;
  return complete ? std::optional<pid_t>(pid) : std::nullopt;
}

bool ProcessExists(pid_t pid) { return ::kill(pid, 0) == 0 || errno != ESRCH; }

// Nobody holds the lock that a living owner holds.
bool IsUnlocked(const std::string& name) {
  const Descriptor fd(::shm_open(name.c_str(), O_RDONLY | O_CLOEXEC, 0));
  return fd.get() >= 0 && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
}

}  // namespace

StatusOr<std::unique_ptr<SharedMemoryObject>> SharedMemoryObject::Create(
    int64_t policy_version, std::span<const std::byte> bytes) {
  std::string name;
  int raw_fd = -1;
  for (int attempt = 0; attempt < kCreateAttempts && raw_fd < 0; ++attempt) {
    name = MakeName(policy_version, attempt);
    raw_fd = ::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (raw_fd < 0 && errno != EEXIST) return FromErrno(errno, "create", name);
  }
  if (raw_fd < 0) return FromErrno(EEXIST, "create", name);
  Descriptor fd(raw_fd);
  Status status = OkStatus();
  if (::flock(fd.get(), LOCK_SH | LOCK_NB) != 0) status = FromErrno(errno, "lock", name);
  if (status.ok()) status = WriteAll(fd.get(), bytes, name);
  if (!status.ok()) {
    ::shm_unlink(name.c_str());
    return status;
  }
  return std::unique_ptr<SharedMemoryObject>(new SharedMemoryObject(name, fd.Release()));
}

SharedMemoryObject::~SharedMemoryObject() {
  ::shm_unlink(name_.c_str());
  ::close(fd_);
}

StatusOr<std::vector<std::byte>> ReadSharedMemory(const std::string& name, uint64_t size_bytes) {
  if (!IsOurName(name)) {
    return InvalidArgument("'" + name.substr(0, 256) + "' is not the name of a weight snapshot");
  }
  const Descriptor fd(::shm_open(name.c_str(), O_RDONLY | O_CLOEXEC, 0));
  if (fd.get() < 0) return FromErrno(errno, "open", name);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return FromErrno(errno, "stat", name);
  if (static_cast<uint64_t>(info.st_size) != size_bytes) {
    return DataLoss("shared memory " + name + " has " + std::to_string(info.st_size) +
                    " bytes; the manifest says " + std::to_string(size_bytes));
  }
  // read() and not a mapping: an object that shrinks meanwhile is an error and not a SIGBUS.
  std::vector<std::byte> bytes(size_bytes);
  size_t used = 0;
  while (used < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FromErrno(errno, "read", name);
    if (got == 0) return DataLoss("shared memory " + name + " shrank while it was read");
    used += static_cast<size_t>(got);
  }
  return bytes;
}

std::string HostId() {
  StatusOr<std::string> boot_id = ReadFile("/proc/sys/kernel/random/boot_id", 256);
  if (!boot_id.ok()) return "";
  while (!boot_id->empty() && boot_id->back() == '\n') boot_id->pop_back();
  return *std::move(boot_id);
}

void RemoveStaleSharedMemory() {
  std::error_code error;
  std::filesystem::directory_iterator files(kDirectory, error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::string file_name = files->path().filename().string();
    const std::optional<pid_t> owner = OwnerOf(file_name);
    if (!owner) continue;
    // An unlocked object of this very pid is that of a predecessor: in a container the pid is the
    // same after every restart.
    if (ProcessExists(*owner) && *owner != ::getpid()) continue;
    const std::string name = "/" + file_name;
    if (IsUnlocked(name)) ::shm_unlink(name.c_str());
  }
}

}  // namespace rollcall
