// Rows of a JSONL file, one JSON object a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct DataRow {
  int64_t id = 0;    // place among the rows, from 0
  int64_t line = 0;  // in the file, from 1
  std::string json;  // the line, without white space around it
};

// All rows. kInvalidArgument: "prompts.jsonl:17: ..." with the line and what is wrong: not JSON,
// not an object, nested deeper than 64, not UTF-8, or one of `required_fields` is missing or not a
// text. A line is at most 16 MiB, a file at most 8 GiB; a file without rows is an error. Lines end
// in LF or CRLF; blank lines are skipped; a byte order mark at the start is skipped.
StatusOr<std::vector<DataRow>> ReadJsonl(const std::string& path,
                                         const std::vector<std::string>& required_fields);

// The same from memory; `origin` names the text in messages.
StatusOr<std::vector<DataRow>> ParseJsonl(std::string_view text, std::string_view origin,
                                          const std::vector<std::string>& required_fields);

// A string or number field of a row as text; a number as it is spelled in the shortest form that
// reads back the same. kNotFound when absent or null; kInvalidArgument when it is something else or
// the row is no JSON object.
StatusOr<std::string> RowField(const std::string& row_json, const std::string& field);

// Order of row indices in pass number `pass` over num_rows rows: a permutation that (seed, pass)
// fix; the identity without shuffle.
std::vector<int64_t> PassOrder(uint64_t seed, int64_t pass, int64_t num_rows, bool shuffle);

}  // namespace rollcall
