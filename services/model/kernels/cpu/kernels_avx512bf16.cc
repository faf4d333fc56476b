#define ROLLCALL_ISA avx512bf16
#include "services/model/kernels/cpu/kernels_body.h"

namespace rollcall {

extern const CpuKernels kAvx512Bf16Kernels;
const CpuKernels kAvx512Bf16Kernels = avx512bf16::kTable;

}  // namespace rollcall
