// Data files -> rows as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/common/data/encode_example.h"
#include "services/common/data/example.h"
#include "services/coordinator/job/prepared_job.h"

namespace rollcall::coordinator {

struct RowLimits {
  int64_t max_prompt_tokens = 0;
  int64_t max_completion_tokens = 0;  // data sets only, the end token included
  int64_t max_positions = 0;
};

struct RowsRequest {
  std::vector<std::string> files;
  ExampleKind kind = ExampleKind::kPrompts;
  ColumnNames columns;
  v1::DataSpec::RankedPairs ranked_pairs = v1::DataSpec::BEST_WORST;
  RowLimits limits;
  int64_t max_rows = 0;  // of the files, before any is dropped; 0 reads all
};

// Reads the rows. Those that are too long, and pairs whose sides do not differ, keep their number
// but are not usable. A ranked row makes a row for each of its pairs.
// Errors name the file and the row.
StatusOr<PreparedRows> PrepareRows(const RowsRequest& request, const ExampleEncoding& encoding);

}  // namespace rollcall::coordinator
