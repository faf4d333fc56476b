// JSONL data: every accepted row reads back as a row, and reads as examples without a crash.
#include <string>

#include "services/common/data/data_files.h"
#include "services/common/data/example.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::ExampleKind;
  using rollcall::ExampleReader;
  using rollcall::fuzz::Require;
  ExampleReader readers[] = {{ExampleKind::kPrompts, {}},
                             {ExampleKind::kCompletions, {}},
                             {ExampleKind::kPairs, {}},
                             {ExampleKind::kFeedback, {}}};
  (void)rollcall::ReadRowsFromText(rollcall::fuzz::Text(data, size), "fuzz",
                                   [&](const rollcall::DataRow& row) {
                                     const auto again = rollcall::ParseRow(row.text);
                                     Require(again.ok() && *again == row.value);
                                     (void)rollcall::RowAnswer(std::string(row.text), "");
                                     for (ExampleReader& reader : readers)
                                       (void)reader.Read(row.value);
                                     return rollcall::OkStatus();
                                   });
  return 0;
}
