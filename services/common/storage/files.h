// Files that are either whole or absent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

// The whole file. kNotFound, kPermissionDenied; kResourceExhausted when larger than max_bytes.
// Every message names the path.
StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes);

// Writes path.tmp-<pid>-<n>, fsyncs, renames, fsyncs the directory: a reader sees the old file or
// the new one. kResourceExhausted: disk full; what was written is removed again. Thread-safe, also
// for one path.
Status WriteFileAtomic(const std::string& path, std::string_view content);
// The same for content that lies in several pieces (a header and mapped or live tensors).
Status WritePiecesAtomic(const std::string& path, std::span<const std::string_view> pieces);

// Makes the directory and its parents.
Status MakeDirectories(const std::string& path);

// fsyncs a directory, so that renames inside it last.
Status SyncDirectory(const std::string& path);

// XXH3-128, canonical big-endian form; XXH3-64.
using Hash128 = std::array<uint8_t, 16>;
Hash128 HashBytes128(std::span<const std::byte> bytes);
uint64_t HashBytes64(std::span<const std::byte> bytes);
std::string HexString(std::span<const uint8_t> bytes);

}  // namespace rollcall
