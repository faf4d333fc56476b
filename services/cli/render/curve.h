// A line plot in Braille characters: two by four dots in each.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace rollcall {

struct CurveOptions {
  int width = 60;  // columns, labels included; at least 12 are needed for anything to be drawn
  int height = 8;  // rows
};

// The values from left to right, over the whole width; several that share a column of dots become
// their mean. Values that are not finite leave a gap. The rows come out top first, the first and
// the last labelled with the largest and the smallest value drawn. Empty without finite values.
std::vector<std::string> Curve(std::span<const double> values, const CurveOptions& options);

}  // namespace rollcall
