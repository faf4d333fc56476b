// JSONL data: every accepted row reads back as a row.
#include "services/common/data/jsonl.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::fuzz::Require;
  const auto rows = rollcall::ParseJsonl(rollcall::fuzz::Text(data, size), "fuzz", {});
  if (!rows.ok()) return 0;
  Require(!rows->empty());
  for (const rollcall::DataRow& row : *rows) {
    Require(rollcall::ParseJsonl(row.json, "row", {}).ok());
    (void)rollcall::RowField(row.json, "prompt");
  }
  return 0;
}
