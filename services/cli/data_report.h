// A data file, looked at: columns, what the rows can be used as, and how long they are.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/data/encode_example.h"
#include "services/common/data/example.h"

namespace rollcall {

struct ColumnReport {
  int64_t num_rows = 0;         // that have a value
  std::set<std::string> types;  // "text", "number", "conversation" ...
};

// Of sorted lengths; the nearest rank.
struct LengthReport {
  int64_t median = 0;
  int64_t p90 = 0;
  int64_t p99 = 0;
  int64_t longest = 0;
};

struct DataReport {
  std::vector<std::string> files;
  int64_t num_rows = 0;
  uint64_t size_bytes = 0;
  std::map<std::string, ColumnReport> columns;
  // What the rows can be used as, the most telling first.
  std::vector<ExampleKind> kinds;
  // Why not, of kinds that the columns speak for.
  std::vector<std::pair<ExampleKind, std::string>> refused;
  std::string example;  // the first row's JSON
  // In tokens, of the first kind; with a tokenizer.
  std::optional<LengthReport> prompt_tokens;
  std::optional<LengthReport> completion_tokens;
};

struct DataInspection {
  std::vector<std::string> files;
  std::optional<ExampleKind> kind;  // none tries all
  ColumnNames columns;
  const ExampleEncoding* encoding = nullptr;  // null counts no tokens
  int64_t max_rows = 0;
};

// Reads all rows. With a kind, the first row that does not fit it is the error, with its place.
StatusOr<DataReport> InspectData(const DataInspection& inspection);

}  // namespace rollcall
