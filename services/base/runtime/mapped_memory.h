// Large anonymous memory straight from the system: zero, in huge pages where the system has them,
// and really used only where it was written.
#pragma once

#include <cstddef>
#include <memory>

#include "services/base/status/status.h"

namespace rollcall {

class MappedMemory {
 public:
  // kResourceExhausted when the system refuses.
  static StatusOr<std::unique_ptr<MappedMemory>> Map(size_t size_bytes);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  // Aligned to a huge page.
  std::byte* data() const { return data_; }

 private:
  MappedMemory(void* mapping, size_t mapping_bytes, std::byte* data)
      : mapping_(mapping), mapping_bytes_(mapping_bytes), data_(data) {}

  void* const mapping_;
  const size_t mapping_bytes_;
  std::byte* const data_;
};

}  // namespace rollcall
