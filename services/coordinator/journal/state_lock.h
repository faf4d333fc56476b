// Keeps a second coordinator off a state directory.
#pragma once

#include <memory>
#include <string>

#include "services/base/status/status.h"

namespace rollcall::coordinator {

// Held for the life of the object; goes with the process, whatever ends it.
class StateLock {
 public:
  // Makes the directory when it is missing. kUnavailable when another coordinator holds it or its
  // lock file cannot be opened.
  static StatusOr<std::unique_ptr<StateLock>> Acquire(const std::string& directory);
  ~StateLock();
  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  explicit StateLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace rollcall::coordinator
