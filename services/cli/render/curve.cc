#include "services/cli/render/curve.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "services/cli/render/text.h"

namespace rollcall {
namespace {

// Bit of a dot within a Braille character, by column and row.
constexpr uint8_t kDots[2][4] = {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}};

std::string Braille(uint8_t dots) {
  const char32_t c = 0x2800 + dots;
  return {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
          static_cast<char>(0x80 | (c & 0x3F))};
}

// Means of `num_columns` equal stretches of the values; NaN where there is none.
std::vector<double> Resample(std::span<const double> values, int num_columns) {
  std::vector<double> columns(num_columns, std::nan(""));
  const auto n = static_cast<int64_t>(values.size());
  for (int c = 0; c < num_columns; ++c) {
    const int64_t begin = n * c / num_columns;
    const int64_t end = std::max(begin + 1, n * (c + 1) / num_columns);
    double sum = 0;
    int count = 0;
    for (int64_t i = begin; i < std::min(end, n); ++i) {
      if (!std::isfinite(values[i])) continue;
      sum += values[i];
      ++count;
    }
    if (count > 0) columns[c] = sum / count;
  }
  return columns;
}

}  // namespace

std::vector<std::string> Curve(std::span<const double> values, const CurveOptions& options) {
  constexpr int kLabelWidth = 8;
  const int plot_width = options.width - kLabelWidth - 2;
  if (plot_width < 2 || options.height < 1) return {};
  const std::vector<double> columns = Resample(values, plot_width * 2);
  double low = INFINITY;
  double high = -INFINITY;
  for (const double value : columns) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) return {};

  const int num_rows = options.height * 4;
  const double range = high - low;
  std::vector<uint8_t> cells(static_cast<size_t>(plot_width) * options.height, 0);
  const auto set = [&](int x, int y) {  // y counts from the top
    cells[static_cast<size_t>(y / 4) * plot_width + x / 2] |= kDots[x % 2][y % 4];
  };
  int previous = -1;
  for (int x = 0; x < plot_width * 2; ++x) {
    if (!std::isfinite(columns[x])) {
      previous = -1;
      continue;
    }
    // A flat curve lies in the middle.
    const double height = range > 0 ? (columns[x] - low) / range : 0.5;
    const int y =
        std::clamp(static_cast<int>(std::lround((1 - height) * (num_rows - 1))), 0, num_rows - 1);
    // Upright stretches are drawn through, so that the line does not fall apart.
    const int step = previous < 0 || previous == y ? 0 : (y > previous ? 1 : -1);
    for (int between = previous; step != 0 && between != y; between += step) {
      if (between != previous) set(x, between);
    }
    set(x, y);
    previous = y;
  }

  std::vector<std::string> lines;
  for (int row = 0; row < options.height; ++row) {
    std::string label;
    if (row == 0) label = HumanNumber(high);
    if (row > 0 && row == options.height - 1 && range > 0) label = HumanNumber(low);
    std::string line = PadLeft(label, kLabelWidth) + (label.empty() ? " │" : " ┤");
    for (int x = 0; x < plot_width; ++x) {
      line += Braille(cells[static_cast<size_t>(row) * plot_width + x]);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace rollcall
