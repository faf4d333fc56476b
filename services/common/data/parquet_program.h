// The program rollcall-parquet, which turns a Parquet file into JSON lines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "services/base/status/status.h"

namespace rollcall {

struct ParquetRun {
  std::string program;  // empty: FindParquetProgram()
  int64_t max_rows = 0;
  size_t max_row_bytes = 0;
  // The program is killed when it writes nothing for this long.
  absl::Duration patience = absl::Seconds(120);
};

// Beside this program, or in ../bin. kFailedPrecondition: this build cannot read Parquet, and how
// one that can is made.
StatusOr<std::string> FindParquetProgram();

// Hands the output to `read` in pieces. What the program says of the file is kInvalidArgument;
// kInternal when it crashed or stalled. An error of `read` ends the program.
Status RunParquetProgram(const std::string& path, const ParquetRun& run,
                         const std::function<Status(std::string_view piece)>& read);

}  // namespace rollcall
