// Memory of CPU tensors, kept for the next tensor of about its size. A large activation that comes
// fresh from the system costs a page fault for every 4 KiB before it is written once, which takes
// longer than writing it.
#pragma once

#include <cstddef>

namespace rollcall {

struct TensorMemoryStats {
  size_t used_bytes = 0;  // by tensors now
  size_t kept_bytes = 0;  // for those to come
  size_t num_kept = 0;
};

// What is kept at most: more tensors than one step of a model has at a time.
inline constexpr size_t kMaxKeptTensors = 64;
inline constexpr size_t kDefaultKeptTensorBytes = size_t{512} << 20;

// From now on all CPU tensors of the process take their memory here. The memory that was longest
// unused goes back to the system when more than `max_kept_bytes` lie around. Call once, at the
// start of a process that computes; tensors from before are freed as they were made. Thread-safe
// afterwards. Does nothing under AddressSanitizer, which could not see a use after free any more.
void RecycleTensorMemory(size_t max_kept_bytes = kDefaultKeptTensorBytes);

TensorMemoryStats GetTensorMemoryStats();

}  // namespace rollcall
