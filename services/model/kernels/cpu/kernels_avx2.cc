#define ROLLCALL_ISA avx2
#include "services/model/kernels/cpu/kernels_body.h"

namespace rollcall {

extern const CpuKernels kAvx2Kernels;
const CpuKernels kAvx2Kernels = avx2::kTable;

}  // namespace rollcall
