// Progress bars.
#pragma once

#include <string>

namespace rollcall {

// A bar of exactly `width` columns, filled by eighths of a column; fractions outside [0, 1] and
// those that are no number count as the nearest bound.
std::string ProgressBar(double fraction, int width);

}  // namespace rollcall
