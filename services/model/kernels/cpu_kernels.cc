#include "services/model/kernels/cpu_kernels.h"

namespace rollcall {

extern const CpuKernels kPortableKernels;
#if defined(__x86_64__)
extern const CpuKernels kAvx512Bf16Kernels;
extern const CpuKernels kAvx512Kernels;
extern const CpuKernels kAvx2Kernels;
#endif

int64_t PackedSize(int64_t num_outputs, int64_t depth) {
  return (num_outputs + kPanelColumns - 1) / kPanelColumns * kPanelColumns * depth;
}

int64_t Bf16PackedSize(int64_t num_outputs, int64_t depth) {
  return PackedSize(num_outputs, NumBf16Pairs(depth));
}

int64_t Int8PackedSize(int64_t num_outputs, int64_t depth) {
  // Two more steps for a panel's head.
  return PackedSize(num_outputs, NumInt8Quads(depth) + 2);
}

int64_t AttentionScratch(int64_t num_keys) {
  // Four rows of scores, each rounded up to sixteen keys, and sixteen more for a partial block.
  return 4 * ((num_keys + 15) / 16 * 16 + 16);
}

int64_t AttentionGradScratch(int64_t num_tokens, int64_t head_dim) {
  const int64_t padded = (num_tokens + 15) / 16 * 16;
  return 2 * (head_dim + kAttentionGradRows) * padded;
}

std::vector<const CpuKernels*> AvailableCpuKernels() {
  std::vector<const CpuKernels*> available;
#if defined(__x86_64__)
  const bool has_fma = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
  const bool has_avx512 = has_fma && __builtin_cpu_supports("avx512f");
  if (has_avx512 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    available.push_back(&kAvx512Bf16Kernels);
  }
  if (has_avx512) available.push_back(&kAvx512Kernels);
  if (has_fma) available.push_back(&kAvx2Kernels);
#endif
  available.push_back(&kPortableKernels);
  return available;
}

const CpuKernels& BestCpuKernels() {
  static const CpuKernels* const best = AvailableCpuKernels().front();
  return *best;
}

}  // namespace rollcall
