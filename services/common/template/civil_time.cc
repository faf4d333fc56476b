#include "services/common/template/civil_time.h"

#include <array>
#include <chrono>
#include <ctime>

namespace rollcall {
namespace {

StatusOr<std::tm> CalendarTime(const CivilTime& time) {
  const std::chrono::year_month_day date{std::chrono::year(time.year),
                                         std::chrono::month(static_cast<unsigned>(time.month)),
                                         std::chrono::day(static_cast<unsigned>(time.day))};
  const bool is_clock = time.hour >= 0 && time.hour < 24 && time.minute >= 0 && time.minute < 60 &&
                        time.second >= 0 && time.second < 60 && time.microsecond >= 0 &&
                        time.microsecond < 1'000'000;
  if (!date.ok() || !is_clock || time.year < 1 || time.year > 9999) {
    return InvalidArgument("the current time given is no date and time of a calendar");
  }
  const std::chrono::sys_days days(date);
  const std::chrono::sys_days new_year(date.year() / std::chrono::January / 1);
  std::tm calendar{};
  calendar.tm_year = time.year - 1900;
  calendar.tm_mon = time.month - 1;
  calendar.tm_mday = time.day;
  calendar.tm_hour = time.hour;
  calendar.tm_min = time.minute;
  calendar.tm_sec = time.second;
  calendar.tm_wday = static_cast<int>(std::chrono::weekday(days).c_encoding());
  calendar.tm_yday = static_cast<int>((days - new_year).count());
  calendar.tm_isdst = -1;
  return calendar;
}

}  // namespace

StatusOr<std::string> FormatTime(const CivilTime& time, std::string_view format, size_t max_bytes) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::tm calendar, CalendarTime(time));
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (out.size() > max_bytes) return InvalidArgument("the formatted time is too long");
    if (format[i] != '%' || i + 1 == format.size()) {
      out.push_back(format[i]);
      continue;
    }
    // Flags of the C library, such as %-d, belong to the conversion; a width does not.
    size_t end = i + 1;
    while (end < format.size() &&
           std::string_view("-_0^#EO").find(format[end]) != std::string_view::npos) {
      ++end;
    }
    if (end == format.size()) {
      out += format.substr(i);
      break;
    }
    const char kind = format[end];
    if (kind == 'f') {
      std::string digits = std::to_string(time.microsecond);
      out += std::string(6 - digits.size(), '0') + digits;
    } else if (kind == 'z' || kind == 'Z') {
      // Without a zone both are empty.
    } else if (kind == '%') {
      out.push_back('%');
    } else {
      const std::string conversion(format.substr(i, end - i + 1));
      std::array<char, 128> buffer{};
      const size_t size =
          std::strftime(buffer.data(), buffer.size(), conversion.c_str(), &calendar);
      out.append(buffer.data(), size);
    }
    i = end;
  }
  return out;
}

}  // namespace rollcall
