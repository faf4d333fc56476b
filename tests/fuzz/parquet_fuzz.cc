// Parquet files: every row that comes out is a JSON object.
#include "services/common/data/parquet/parquet_rows.h"
#include "services/common/data/row_json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  rollcall::ParquetLimits limits;
  limits.max_rows = 1000;
  limits.max_text_bytes = 1 << 20;
  limits.max_buffer_bytes = 64 << 20;
  limits.value.max_row_bytes = 64 << 10;
  (void)rollcall::ReadParquetRowsFromMemory(
      rollcall::fuzz::Text(data, size), limits, [](std::string_view json) {
        rollcall::fuzz::Require(rollcall::ParseRow(json).ok());
        return rollcall::OkStatus();
      });
  return 0;
}
