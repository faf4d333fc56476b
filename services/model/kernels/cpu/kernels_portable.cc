#define ROLLCALL_ISA portable
#include "services/model/kernels/cpu/kernels_body.h"

namespace rollcall {

extern const CpuKernels kPortableKernels;
const CpuKernels kPortableKernels = portable::kTable;

}  // namespace rollcall
