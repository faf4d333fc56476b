// No correction: every weight is 1.
#pragma once

#include "trainer/correction/correction.h"

namespace rollcall {

int64_t WeighNone(double cap, std::span<const double> log_ratios, std::span<double> weights);

}  // namespace rollcall
