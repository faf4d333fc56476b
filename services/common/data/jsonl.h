// Rows of a JSONL file, one JSON object a line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct DataRow {
  int64_t id = 0;    // line number - 1 among non-empty lines
  std::string json;  // the line
};

// All rows. kInvalidArgument: "prompts.jsonl:17: ..." with the line and what is wrong (not JSON,
// not an object, a missing or non-string field of `required_fields`, not UTF-8). A line is at most 16 MiB, a file
// at most 8 GiB. An empty file is an error.
StatusOr<std::vector<DataRow>> ReadJsonl(const std::string& path,
                                         const std::vector<std::string>& required_fields);

// A string or number field of a row as text; kNotFound when absent.
StatusOr<std::string> RowField(const std::string& row_json, const std::string& field);

// Order of row indices in pass number `pass` over num_rows rows; the identity without shuffle.
std::vector<int64_t> PassOrder(uint64_t seed, int64_t pass, int64_t num_rows, bool shuffle);

}  // namespace rollcall
