#include "services/cli/render/bar.h"

#include <algorithm>
#include <cmath>

namespace rollcall {

std::string ProgressBar(double fraction, int width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!(fraction > 0)) fraction = 0;
  fraction = std::min(fraction, 1.0);
  width = std::max(0, width);
  const int eighths = static_cast<int>(std::floor(fraction * width * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  int used = eighths / 8;
  if (eighths % 8 > 0) {
    bar += kEighths[eighths % 8];
    ++used;
  }
  for (; used < width; ++used) bar += "░";
  return bar;
}

}  // namespace rollcall
