// Directories that appear whole.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "services/base/status/status.h"
#include "services/common/storage/files.h"

namespace rollcall {

// Calls fill(temporary directory), then moves it to `directory`, replacing what is there. The
// temporary directory is removed again on failure. fill fsyncs its own files.
Status WriteDirectoryAtomic(const std::string& directory,
                            const std::function<Status(const std::string&)>& fill);

struct FileFingerprint {
  uint64_t size_bytes = 0;
  Hash128 hash{};
};

// Size and hash of a file; kNotFound, kPermissionDenied with the path.
StatusOr<FileFingerprint> FingerprintFile(const std::string& path);

// Copies the tokenizer's files (those that are there) from one model directory into another.
Status CopyTokenizerFiles(const std::string& from, const std::string& to);

}  // namespace rollcall
