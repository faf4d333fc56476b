// Snapshots in POSIX shared memory, for readers on the same host.
//
// An object belongs to the process that made it: that process holds a lock on it as long as it
// lives, so that what a killed process left behind can be told from what is in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// One object "/rollcall-<pid>-<unique>-v<version>", mode 0600; the destructor unlinks it. Readers
// that opened it before keep their bytes.
class SharedMemoryObject {
 public:
  // kResourceExhausted: no room in /dev/shm or a limit of the system; nothing is left behind.
  static StatusOr<std::unique_ptr<SharedMemoryObject>> Create(int64_t policy_version,
                                                              std::span<const std::byte> bytes);
  ~SharedMemoryObject();
  SharedMemoryObject(const SharedMemoryObject&) = delete;
  SharedMemoryObject& operator=(const SharedMemoryObject&) = delete;

  const std::string& name() const { return name_; }

 private:
  SharedMemoryObject(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}

  const std::string name_;
  const int fd_;  // holds the lock
};

// A private copy of the object's bytes. kInvalidArgument: not a name of ours; kNotFound: no such
// object; kDataLoss: its size is not `size_bytes`.
StatusOr<std::vector<std::byte>> ReadSharedMemory(const std::string& name, uint64_t size_bytes);

// Names this boot of this host; empty when the system does not tell.
std::string HostId();

}  // namespace rollcall
