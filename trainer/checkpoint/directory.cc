#include "trainer/checkpoint/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <sys/mman.h>
#include <sys/stat.h>

namespace rollcall {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTokenizerFileBytes = 256ULL << 20;
constexpr std::array<std::string_view, 8> kTokenizerFiles = {"tokenizer.json",
                                                             "tokenizer_config.json",
                                                             "special_tokens_map.json",
                                                             "added_tokens.json",
                                                             "vocab.json",
                                                             "merges.txt",
                                                             "tokenizer.model",
                                                             "chat_template.jinja"};

Status ErrnoStatus(const std::string& what, int error) {
  const std::string message = what + ": " + std::generic_category().message(error);
  switch (error) {
    case ENOENT:
      return NotFound(message);
    case EACCES:
    case EPERM:
      return MakeStatus(StatusCode::kPermissionDenied, message);
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(message);
    default:
      return Internal(message);
  }
}

// Puts the finished directory in its place. An existing one is exchanged in one step, so that the
// name is never without a whole directory; file systems that cannot do that get two renames.
Status MoveIntoPlace(const std::string& temporary, const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error)) {
    if (std::rename(temporary.c_str(), directory.c_str()) != 0) {
      return ErrnoStatus("cannot rename " + temporary + " to " + directory, errno);
    }
    return OkStatus();
  }
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, directory.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(temporary, error);
    return OkStatus();
  }
  const std::string old = temporary + "-old";
  if (std::rename(directory.c_str(), old.c_str()) != 0 ||
      std::rename(temporary.c_str(), directory.c_str()) != 0) {
    return ErrnoStatus("cannot replace " + directory, errno);
  }
  fs::remove_all(old, error);
  return OkStatus();
}

}  // namespace

Status WriteDirectoryAtomic(const std::string& directory,
                            const std::function<Status(const std::string&)>& fill) {
  const fs::path parent = fs::path(directory).parent_path();
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(parent.string()));
  const std::string temporary = directory + ".tmp-" + std::to_string(getpid());
  std::error_code error;
  fs::remove_all(temporary, error);
  Status status = MakeDirectories(temporary);
  if (status.ok()) status = fill(temporary);
  if (status.ok()) status = SyncDirectory(temporary);
  if (status.ok()) status = MoveIntoPlace(temporary, directory);
  if (!status.ok()) {
    fs::remove_all(temporary, error);
    return Annotate(status, "writing " + directory);
  }
  return SyncDirectory(parent.string());
}

StatusOr<FileFingerprint> FingerprintFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open " + path, errno);
  struct stat info{};
  if (fstat(fd, &info) != 0) {
    const int code = errno;
    close(fd);
    return ErrnoStatus("cannot stat " + path, code);
  }
  FileFingerprint fingerprint;
  fingerprint.size_bytes = static_cast<uint64_t>(info.st_size);
  if (info.st_size == 0) {
    close(fd);
    fingerprint.hash = HashBytes128({});
    return fingerprint;
  }
  void* mapped = mmap(nullptr, fingerprint.size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int code = errno;
  close(fd);
  if (mapped == MAP_FAILED) return ErrnoStatus("cannot map " + path, code);
  fingerprint.hash = HashBytes128({static_cast<const std::byte*>(mapped), fingerprint.size_bytes});
  munmap(mapped, fingerprint.size_bytes);
  return fingerprint;
}

Status CopyTokenizerFiles(const std::string& from, const std::string& to) {
  for (const std::string_view name : kTokenizerFiles) {
    const std::string source = from + "/" + std::string(name);
    StatusOr<std::string> content = ReadFile(source, kMaxTokenizerFileBytes);
    if (content.status().code() == StatusCode::kNotFound) continue;
    ROLLCALL_RETURN_IF_ERROR(content.status());
    ROLLCALL_RETURN_IF_ERROR(WriteFileAtomic(to + "/" + std::string(name), *content));
  }
  return OkStatus();
}

}  // namespace rollcall
