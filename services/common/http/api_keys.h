// Bearer keys of an HTTP server.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// Immutable and thread-safe.
class ApiKeys {
 public:
  // No keys: everybody may come in.
  ApiKeys() = default;
  // One key a line; empty lines and lines that begin with '#' are skipped. kInvalidArgument: the
  // file cannot be read, has no key, or a key is shorter than 16 characters or not printable ASCII.
  static StatusOr<ApiKeys> Load(const std::string& path);

  bool empty() const { return digests_.empty(); }
  // Whether the value of an Authorization header is "Bearer KEY" with one of the keys. The time
  // that it takes tells nothing about the keys but their number.
  bool Admits(std::string_view authorization) const;

 private:
  using Digest = std::array<uint8_t, 32>;  // SHA-256
  static Digest Hash(std::string_view key);

  std::vector<Digest> digests_;
};

}  // namespace rollcall
