// The end of growing text files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// The last `num_lines` lines of a file; at most 4 MiB of it are read. kNotFound.
StatusOr<std::vector<std::string>> TailLines(const std::string& path, int num_lines);

// Hands out what is appended to a file from now on, in whole lines. A file that was replaced or cut
// (rotated) is read from its beginning.
class LineFollower {
 public:
  // Starts at the present end; a file that does not exist yet is waited for.
  explicit LineFollower(std::string path);
  // The lines since the last call, at most 1 MiB of them.
  std::vector<std::string> Poll();

 private:
  const std::string path_;
  uint64_t inode_ = 0;
  uint64_t offset_ = 0;
  std::string partial_;
};

}  // namespace rollcall
