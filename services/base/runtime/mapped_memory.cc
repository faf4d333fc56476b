#include "services/base/runtime/mapped_memory.h"

#include <cstdint>
#include <limits>
#include <string>

#include <sys/mman.h>

namespace rollcall {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

StatusOr<std::unique_ptr<MappedMemory>> MappedMemory::Map(size_t size_bytes) {
  const auto refused = [&] {
    return ResourceExhausted("the system refused " + std::to_string(size_bytes >> 20) +
                             " MiB of memory");
  };
  if (size_bytes > std::numeric_limits<size_t>::max() / 2) return refused();
  // Room to start at a huge page.
  const size_t mapping_bytes = size_bytes + kHugePage;
  void* const mapping = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return refused();
  const auto address = reinterpret_cast<uintptr_t>(mapping);
  const size_t offset = (kHugePage - address % kHugePage) % kHugePage;
  std::byte* const data = static_cast<std::byte*>(mapping) + offset;
#if defined(MADV_HUGEPAGE)
  // A wish: a system without huge pages works as well, only slower.
  static_cast<void>(madvise(data, size_bytes, MADV_HUGEPAGE));
#endif
  return std::unique_ptr<MappedMemory>(new MappedMemory(mapping, mapping_bytes, data));
}

MappedMemory::~MappedMemory() { munmap(mapping_, mapping_bytes_); }

}  // namespace rollcall
