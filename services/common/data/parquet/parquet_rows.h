// Rows of a Parquet file as JSON lines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/data/parquet/value_json.h"

namespace rollcall {

struct ParquetLimits {
  uint64_t max_file_bytes = uint64_t{64} << 30;
  int64_t max_columns = 10'000;  // leaves of the schema
  int64_t max_rows = 0;          // stops after so many; 0 reads all
  // Of all rows as text: a small file can hold very many repeats of one value.
  uint64_t max_text_bytes = uint64_t{8} << 30;
  // Buffers of decompressed pages and decoded batches.
  int64_t max_buffer_bytes = int64_t{2} << 30;
  JsonValueLimits value;
};

// Calls `sink` with the JSON object of each row, in order; stops with the first error of it.
// Columns keep their order; a null is a JSON null. kInvalidArgument and kResourceExhausted say
// where: "row 17 (row group 0), column 'a.b': ..."; rows count from 1, row groups from 0 as
// elsewhere. Nothing of the file is trusted, but a defect in the decoder may crash: run it in a
// process of its own.
Status ReadParquetRows(const std::string& path, const ParquetLimits& limits,
                       const std::function<Status(std::string_view json)>& sink);

// The same of a file in memory.
Status ReadParquetRowsFromMemory(std::string_view file, const ParquetLimits& limits,
                                 const std::function<Status(std::string_view json)>& sink);

}  // namespace rollcall
