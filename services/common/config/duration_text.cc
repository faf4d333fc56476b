#include "services/common/config/duration_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>

namespace rollcall {
namespace {

struct Unit {
  std::string_view name;
  int64_t milliseconds;
};
// "ms" before "m": the first match wins.
constexpr Unit kUnits[] = {{"ms", 1}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}};
constexpr int64_t kMaxMilliseconds = 30LL * 24 * 3'600'000;

Status NotADuration(std::string_view text) {
  return InvalidArgument("expected a duration such as 250ms, 30s, 5m or 2h, got '" +
                         std::string(text) + "'");
}

}  // namespace

StatusOr<absl::Duration> ParseDurationText(std::string_view text) {
  if (text.empty() || text.size() > 64) return NotADuration(text.substr(0, 64));
  double total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    // from_chars would also take a sign, "inf" and an exponent.
    if (rest.front() < '0' || rest.front() > '9') return NotADuration(text);
    double number = 0;
    const auto [end, error] =
        std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
    if (error != std::errc()) return NotADuration(text);
    rest.remove_prefix(end - rest.data());
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (unit == nullptr && rest.substr(0, candidate.name.size()) == candidate.name) {
        unit = &candidate;
      }
    }
    if (unit == nullptr) return NotADuration(text);
    rest.remove_prefix(unit->name.size());
    total += number * static_cast<double>(unit->milliseconds);
    if (!(total <= static_cast<double>(kMaxMilliseconds))) {
      return InvalidArgument("'" + std::string(text) + "' is longer than 720h");
    }
  }
  return absl::Milliseconds(std::llround(total));
}

std::string DurationText(absl::Duration duration) {
  int64_t left = absl::ToInt64Milliseconds(duration);
  if (left <= 0) return "0s";
  std::string text;
  for (const Unit& unit : {kUnits[1], kUnits[2], kUnits[3], kUnits[0]}) {
    if (left / unit.milliseconds > 0) {
      text += std::to_string(left / unit.milliseconds) + std::string(unit.name);
      left %= unit.milliseconds;
    }
  }
  return text;
}

}  // namespace rollcall
