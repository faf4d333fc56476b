// Masking of tokens: w = exp(d) inside [1 / cap, cap], 0 outside ("IcePop").
#pragma once

#include "trainer/correction/correction.h"

namespace rollcall {

int64_t WeighTokenMask(double cap, std::span<const double> log_ratios, std::span<double> weights);

}  // namespace rollcall
