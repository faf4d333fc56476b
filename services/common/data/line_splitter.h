// Lines of a text that comes in pieces.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "services/base/status/status.h"

namespace rollcall {

// Calls `visit` with each line without its LF, and with its number, from 1. Not thread-safe.
class LineSplitter {
 public:
  // False ends the reading: further pieces are ignored.
  using Visit = std::function<StatusOr<bool>(int64_t number, std::string_view line)>;
  LineSplitter(size_t max_line_bytes, Visit visit)
      : max_line_bytes_(max_line_bytes), visit_(std::move(visit)) {}

  // Errors of `visit`; kInvalidArgument "line 7 has more than N bytes".
  Status Add(std::string_view piece);
  // The last line needs no LF.
  Status Finish();
  bool ended() const { return ended_; }

 private:
  Status Emit(std::string_view line);

  const size_t max_line_bytes_;
  const Visit visit_;
  std::string partial_;
  int64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace rollcall
