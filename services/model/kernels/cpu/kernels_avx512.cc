#define ROLLCALL_ISA avx512
#include "services/model/kernels/cpu/kernels_body.h"

namespace rollcall {

extern const CpuKernels kAvx512Kernels;
const CpuKernels kAvx512Kernels = avx512::kTable;

}  // namespace rollcall
