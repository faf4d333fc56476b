// Runs the kernels of services/model/kernels/cuda on the CPU: a grid block by block, a block as one
// fiber a thread, on the calling thread. See device.h there for what it is good for.
//
// It is stricter than a GPU, so that what passes here has no undefined behaviour there:
//   * a barrier is reached by all threads of the block, at the same place in the source;
//   * a shuffle is reached by all 32 threads of the warp, at the same place;
//   * shared memory is not-a-number at the start of a block and ends where the launch said (in
//     builds with AddressSanitizer that is watched);
//   * between two barriers threads run one after the other, in an order that EmulatorOrder picks: a
//     kernel that lacks a barrier gives other results in another order.
// A breach throws std::logic_error out of the launch.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <source_location>

namespace rollcall {

struct DeviceKernels;

// The kernels of services/model/kernels/cuda, run by this emulator.
extern const DeviceKernels kEmulatedKernels;

// In which order the threads of a block run between two barriers, until it is destroyed.
class EmulatorOrder {
 public:
  enum class Kind { kForward, kBackward, kRandom };
  explicit EmulatorOrder(Kind kind, uint64_t seed = 1);
  ~EmulatorOrder();
  EmulatorOrder(const EmulatorOrder&) = delete;
  EmulatorOrder& operator=(const EmulatorOrder&) = delete;
};

namespace emulator {

struct ThreadPlace {
  int thread = 0;
  int num_threads = 0;
  int64_t block_x = 0;
  int64_t block_y = 0;
  int64_t block_z = 0;
  char* shared = nullptr;
};

struct Launch {
  int64_t blocks_x = 1;
  int64_t blocks_y = 1;
  int64_t blocks_z = 1;
  int num_threads = 1;
  int64_t shared_bytes = 0;
};

// 0, or 1 when a GPU would refuse the launch: too many threads or blocks, too much shared memory.
int Run(const Launch& launch, const std::function<void()>& kernel);

// Called by kernels only.
const ThreadPlace& Place();
void Barrier(std::source_location where);
float ShuffleXor(float value, int mask, std::source_location where);

}  // namespace emulator
}  // namespace rollcall
