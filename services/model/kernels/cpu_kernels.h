// The choice among the instruction sets that this machine can run.
#pragma once

#include <vector>

#include "services/model/kernels/cpu/kernel_table.h"

namespace rollcall {

// The fastest that this machine runs; the same one in every call.
const CpuKernels& BestCpuKernels();

// All that this machine runs, fastest first; for tests.
std::vector<const CpuKernels*> AvailableCpuKernels();

}  // namespace rollcall
