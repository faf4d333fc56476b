#include "services/common/template/number_format.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

namespace rollcall::jinja {

std::string FormatDigits(int64_t value, int base, bool upper) {
  uint64_t rest =
      value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string out;
  do {
    const auto digit = static_cast<int>(rest % static_cast<uint64_t>(base));
    out.push_back(static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10));
    rest /= static_cast<uint64_t>(base);
  } while (rest != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string FormatFloat(double value, char type, int precision, bool alternate) {
  const bool upper = type == 'E' || type == 'F' || type == 'G';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? "INF" : "inf";
  const std::string format = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  const int size = std::snprintf(nullptr, 0, format.c_str(), precision, std::fabs(value));
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format.c_str(), precision, std::fabs(value));
  out.pop_back();
  return out;
}

}  // namespace rollcall::jinja
