// Writes into run directories, away from the core: lines of metrics.jsonl, trace.json.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "services/base/runtime/executor.h"
#include "services/base/status/status.h"
#include "services/coordinator/types.h"

namespace rollcall::coordinator {

// Thread-safe. Work of one job is done in the order of the calls.
class RunFiles {
 public:
  virtual ~RunFiles() = default;
  // Appends "line\n". A line that does not fit is taken back whole, and the failure is reported.
  virtual void AppendLine(JobNumber job, const std::string& path, std::string line) = 0;
  // Replaces a file by what `make` returns. A failure is reported as well.
  virtual void Replace(JobNumber job, const std::string& path,
                       std::function<std::string()> make) = 0;
};

// Called on the executor's thread when a file could not be written.
using RunFilesFailure = std::function<void(JobNumber job, const Status& status)>;

// `executor` must run one task at a time, in order.
std::unique_ptr<RunFiles> MakeRunFiles(Executor& executor, RunFilesFailure on_failure);

// One line at the end of a file, or nothing. kResourceExhausted: disk full; names the path.
Status AppendLineToFile(const std::string& path, const std::string& line);

}  // namespace rollcall::coordinator
