// The vocabulary in which the kernels of this folder are written: where a thread is, how threads of
// a block meet, how a grid is started.
//
// A .cu file is compiled twice. nvcc makes code for the GPU of it, in namespace rollcall::cuda. A
// C++ compiler makes code for the CPU of the same lines, in namespace rollcall::emulated, where the
// words below are those of tests/support/device_emulator.h: it runs the threads of a block as
// fibers with the GPU's rules for barriers and shuffles. That is how the kernels are tested where
// there is no GPU.
//
// Rules for kernels: one struct of arguments; block and thread sizes that do not depend on the
// batch, so that a row's bits do not either; products are fused where Fma says so and nowhere else
// (nvcc runs with -fmad=false, the C++ compiler with -ffp-contract=off).
#pragma once

#include <cmath>
#include <cstdint>

#include "services/model/kernels/cuda/device_kernels.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define ROLLCALL_DEVICE_NAMESPACE cuda
#define ROLLCALL_KERNEL(max_threads) __global__ void __launch_bounds__(max_threads)
#define ROLLCALL_DEVICE __device__ __forceinline__
#define ROLLCALL_HOST_DEVICE __host__ __device__ __forceinline__
#define ROLLCALL_UNROLL _Pragma("unroll")
#else
#include "tests/support/device_emulator.h"
#define ROLLCALL_DEVICE_NAMESPACE emulated
#define ROLLCALL_KERNEL(max_threads) void
#define ROLLCALL_DEVICE inline
#define ROLLCALL_HOST_DEVICE inline
#define ROLLCALL_UNROLL
#endif

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {

constexpr int kWarp = 32;
constexpr int kInvalidValue = 1;  // as cudaErrorInvalidValue: a launcher refuses its arguments

// Sizes of a launch. Nothing is started when one of them is 0.
struct Grid {
  int64_t x = 1;  // below 2^31
  int64_t y = 1;  // below 2^16
  int64_t z = 1;  // below 2^16
  int threads = kWarp;
  int64_t shared_bytes = 0;
};

ROLLCALL_HOST_DEVICE int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

#if defined(__CUDACC__)

ROLLCALL_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
ROLLCALL_DEVICE int NumThreads() { return static_cast<int>(blockDim.x); }
ROLLCALL_DEVICE int64_t BlockX() { return blockIdx.x; }
ROLLCALL_DEVICE int64_t BlockY() { return blockIdx.y; }
ROLLCALL_DEVICE int64_t BlockZ() { return blockIdx.z; }
// All threads of the block wait for each other; what they wrote to shared memory is then seen.
ROLLCALL_DEVICE void Barrier() { __syncthreads(); }
// The same among the 32 threads of a warp.
ROLLCALL_DEVICE void WarpBarrier() { __syncwarp(); }
// The value of lane `lane ^ mask` of the warp; all 32 lanes call it.
ROLLCALL_DEVICE float ShuffleXor(float value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFU, value, mask);
}
// The block's shared memory, aligned for 16-byte accesses.
ROLLCALL_DEVICE char* SharedMemory() {
  extern __shared__ int4 rollcall_shared[];
  return reinterpret_cast<char*>(rollcall_shared);
}
ROLLCALL_DEVICE float BitsToFloat(uint32_t bits) { return __uint_as_float(bits); }
ROLLCALL_DEVICE uint16_t RoundToBf16(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// 0, or the error of the launch itself; what fails later is reported by later calls on the stream.
template <typename Args>
int Launch(void (*kernel)(Args), const Grid& grid, DeviceStream stream, const Args& args) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return 0;
  constexpr int64_t kSharedWithoutAsking = int64_t{48} << 10;
  if (grid.shared_bytes > kSharedWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(grid.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  kernel<<<blocks, static_cast<unsigned>(grid.threads), static_cast<size_t>(grid.shared_bytes),
           stream>>>(args);
  return cudaGetLastError();
}

#else

inline int ThreadIndex() { return emulator::Place().thread; }
inline int NumThreads() { return emulator::Place().num_threads; }
inline int64_t BlockX() { return emulator::Place().block_x; }
inline int64_t BlockY() { return emulator::Place().block_y; }
inline int64_t BlockZ() { return emulator::Place().block_z; }
inline void Barrier(std::source_location where = std::source_location::current()) {
  emulator::Barrier(where);
}
inline void WarpBarrier(std::source_location where = std::source_location::current()) {
  emulator::ShuffleXor(0, 0, where);
}
inline float ShuffleXor(float value, int mask,
                        std::source_location where = std::source_location::current()) {
  return emulator::ShuffleXor(value, mask, where);
}
inline char* SharedMemory() { return emulator::Place().shared; }
inline float BitsToFloat(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint16_t RoundToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (x != x) return 0x7FFF;  // as cvt.rn.bf16.f32 has it
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

template <typename Args>
int Launch(void (*kernel)(Args), const Grid& grid, DeviceStream /*stream*/, const Args& args) {
  return emulator::Run({.blocks_x = grid.x,
                        .blocks_y = grid.y,
                        .blocks_z = grid.z,
                        .num_threads = grid.threads,
                        .shared_bytes = grid.shared_bytes},
                       [&] { kernel(args); });
}

#endif

ROLLCALL_DEVICE float Fma(float a, float b, float c) { return fmaf(a, b, c); }

// A bfloat16 number: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

ROLLCALL_DEVICE float ToFloat(float x) { return x; }
ROLLCALL_DEVICE float ToFloat(Bf16 x) { return BitsToFloat(static_cast<uint32_t>(x.bits) << 16); }
template <typename T>
ROLLCALL_DEVICE T RoundTo(float x);
template <>
ROLLCALL_DEVICE float RoundTo<float>(float x) {
  return x;
}
template <>
ROLLCALL_DEVICE Bf16 RoundTo<Bf16>(float x) {
  return {RoundToBf16(x)};
}

// Sixteen bytes, moved by one instruction; aligned.
template <typename T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T at[kSize];
};

// Sum or maximum over the warp, the same in all lanes; a fixed tree.
ROLLCALL_DEVICE float WarpSum(float x) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x += ShuffleXor(x, mask);
  return x;
}
ROLLCALL_DEVICE float WarpMax(float x) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x = fmaxf(x, ShuffleXor(x, mask));
  return x;
}

// The same over the block, whose size is a multiple of the warp; `scratch` has one float a warp and
// may be used again after the call.
ROLLCALL_DEVICE float BlockSum(float x, float* scratch) {
  x = WarpSum(x);
  if (ThreadIndex() % kWarp == 0) scratch[ThreadIndex() / kWarp] = x;
  Barrier();
  float sum = scratch[0];
  for (int warp = 1; warp < NumThreads() / kWarp; ++warp) sum += scratch[warp];
  Barrier();
  return sum;
}
ROLLCALL_DEVICE float BlockMax(float x, float* scratch) {
  x = WarpMax(x);
  if (ThreadIndex() % kWarp == 0) scratch[ThreadIndex() / kWarp] = x;
  Barrier();
  float max = scratch[0];
  for (int warp = 1; warp < NumThreads() / kWarp; ++warp) max = fmaxf(max, scratch[warp]);
  Barrier();
  return max;
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
