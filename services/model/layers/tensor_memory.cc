#include "services/model/layers/tensor_memory.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include "services/base/sync/mutex.h"

namespace rollcall {
namespace {

// As ATen's own allocator has it, which is a cache line.
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Smaller blocks malloc keeps by itself.
constexpr size_t kSmallestKept = size_t{64} << 10;
// From here on a block is worth whole huge pages.
constexpr size_t kSmallestHuge = 4 * kHugePage;

// In front of every tensor's memory.
struct alignas(kAlignment) Block {
  size_t capacity;    // bytes behind the header
  uint64_t released;  // when it was kept, by the count of releases
};
static_assert(sizeof(Block) == kAlignment);

size_t RoundUp(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

Block* NewBlock(size_t capacity) {
  const bool is_huge = sizeof(Block) + capacity >= kSmallestHuge;
  const size_t alignment = is_huge ? kHugePage : kAlignment;
  const size_t size = RoundUp(sizeof(Block) + capacity, alignment);
  void* const memory = std::aligned_alloc(alignment, size);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  // A wish: a system without huge pages works as well, only slower.
  if (is_huge) static_cast<void>(madvise(memory, size, MADV_HUGEPAGE));
#endif
  return new (memory) Block{.capacity = size - sizeof(Block), .released = 0};
}

class RecyclingAllocator final : public c10::Allocator {
 public:
  // Lives as long as the process: tensors of static storage outlive everything.
  static RecyclingAllocator& Get() {
    static auto* const allocator = new RecyclingAllocator();
    return *allocator;
  }

  void SetMaxKept(size_t bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    max_kept_bytes_ = bytes;
  }

  TensorMemoryStats stats() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return {.used_bytes = used_bytes_, .kept_bytes = kept_bytes_, .num_kept = num_kept_};
  }

  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &Delete, c10::Device(c10::DeviceType::CPU)};
    Block* block = size >= kSmallestKept ? TakeKept(size) : nullptr;
    if (block == nullptr) {
      block = NewBlock(size);
      MutexLock lock(mu_);
      used_bytes_ += block->capacity;
    }
    void* const data = block + 1;
    return {data, data, &Delete, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Delete; }

  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }

 private:
  static void Delete(void* data) {
    if (data != nullptr) Get().Release(static_cast<Block*>(data) - 1);
  }

  // The smallest kept block that fits and wastes less than a quarter; null: there is none.
  Block* TakeKept(size_t size) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    size_t best = num_kept_;
    for (size_t i = 0; i < num_kept_; ++i) {
      const size_t capacity = kept_[i]->capacity;
      if (capacity < size || capacity - size > size / 4) continue;
      if (best == num_kept_ || capacity < kept_[best]->capacity) best = i;
    }
    if (best == num_kept_) return nullptr;
    Block* const block = RemoveKept(best);
    used_bytes_ += block->capacity;
    return block;
  }

  void Release(Block* block) ABSL_LOCKS_EXCLUDED(mu_) {
    // Given back outside the lock.
    std::array<Block*, kMaxKeptTensors + 1> dropped{};
    size_t num_dropped = 0;
    {
      MutexLock lock(mu_);
      used_bytes_ -= block->capacity;
      if (block->capacity < kSmallestKept || block->capacity > max_kept_bytes_) {
        dropped[num_dropped++] = block;
      } else {
        while (num_kept_ == kMaxKeptTensors || kept_bytes_ + block->capacity > max_kept_bytes_) {
          dropped[num_dropped++] = RemoveKept(OldestKept());
        }
        block->released = ++num_releases_;
        kept_bytes_ += block->capacity;
        kept_[num_kept_++] = block;
      }
    }
    for (size_t i = 0; i < num_dropped; ++i) std::free(dropped[i]);
  }

  size_t OldestKept() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    size_t oldest = 0;
    for (size_t i = 1; i < num_kept_; ++i) {
      if (kept_[i]->released < kept_[oldest]->released) oldest = i;
    }
    return oldest;
  }

  Block* RemoveKept(size_t i) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Block* const block = kept_[i];
    kept_[i] = kept_[--num_kept_];
    kept_bytes_ -= block->capacity;
    return block;
  }

  Mutex mu_;
  size_t max_kept_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  size_t used_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  size_t kept_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t num_releases_ ABSL_GUARDED_BY(mu_) = 0;
  size_t num_kept_ ABSL_GUARDED_BY(mu_) = 0;
  std::array<Block*, kMaxKeptTensors> kept_ ABSL_GUARDED_BY(mu_){};
};

}  // namespace

void RecycleTensorMemory(size_t max_kept_bytes) {
#if !defined(__SANITIZE_ADDRESS__)
  RecyclingAllocator::Get().SetMaxKept(max_kept_bytes);
  // Above the priority of ATen's own, which is registered with 0.
  c10::SetCPUAllocator(&RecyclingAllocator::Get(), 1);
#else
  static_cast<void>(max_kept_bytes);
#endif
}

TensorMemoryStats GetTensorMemoryStats() { return RecyclingAllocator::Get().stats(); }

}  // namespace rollcall
