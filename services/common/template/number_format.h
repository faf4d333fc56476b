// The parts of number formatting that % and str.format() share.
#pragma once

#include <cstdint>
#include <string>

#include "services/base/status/status.h"

namespace rollcall::jinja {

// Digits of |value| in base 2, 8, 10 or 16, without sign and prefix.
std::string FormatDigits(int64_t value, int base, bool upper);

// |value| in one of the forms e E f F g G, without sign; `alternate` keeps the point and the zeros.
// precision in [0, kMaxPrecision].
inline constexpr int kMaxPrecision = 1000;
std::string FormatFloat(double value, char type, int precision, bool alternate);

}  // namespace rollcall::jinja
