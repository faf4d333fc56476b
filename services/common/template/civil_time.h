// A date and time on the clock of the caller, for strftime_now().
#pragma once

#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

struct CivilTime {
  int year = 1970, month = 1, day = 1;  // month and day from 1
  int hour = 0, minute = 0, second = 0;
  int microsecond = 0;
};

// datetime.strftime() of Python in the C locale; the time has no zone, so %z and %Z are empty.
// kInvalidArgument: no such date, or a result longer than max_bytes.
StatusOr<std::string> FormatTime(const CivilTime& time, std::string_view format, size_t max_bytes);

}  // namespace rollcall
