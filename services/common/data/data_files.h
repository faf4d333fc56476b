// Rows of data files: JSONL, one JSON object a line, or Parquet.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/data/row_json.h"

namespace rollcall {

// A row while it is visited.
struct DataRow {
  const RowJson& value;
  std::string_view text;  // the JSON, without white space around it
  std::string place;      // "prompts.jsonl:17", "prompts.parquet: row 17"
};
// An error ends the reading; it comes back with the place of the row before it.
using RowVisitor = std::function<Status(const DataRow& row)>;

struct ReadRowsOptions {
  int64_t max_rows = 0;         // stops after so many; 0 reads all
  std::string parquet_program;  // rollcall-parquet; empty looks for it beside this program
};

// The files that `paths` stand for, in the order given. A path is a file; a pattern with *, ? or
// [...], which stands for its files by name; or a directory, which stands for the .jsonl, .ndjson
// and .parquet files in it, or in its folder "data" when it has none, by name. Of a pattern and a
// directory only files whose name has the word `split` in it are taken ("train-00000-of-00002");
// empty takes all, and is refused for a directory whose file names speak of several splits.
// kNotFound, kInvalidArgument: name the path.
StatusOr<std::vector<std::string>> FindDataFiles(std::span<const std::string> paths,
                                                 const std::string& split);

// Reads the files one after the other. A file is Parquet when it begins as one ("PAR1"), else
// JSONL: at most 8 GiB, lines of at most 16 MiB that end in LF or CRLF; blank lines are skipped,
// and so is a byte order mark at the start. kInvalidArgument: "prompts.jsonl:17: ..." with the line
// and what is wrong; no rows at all. kFailedPrecondition: a Parquet file, and this build has no
// rollcall-parquet.
Status ReadRows(std::span<const std::string> files, const ReadRowsOptions& options,
                const RowVisitor& visit);

// JSONL from memory; `origin` names the text in messages.
Status ReadRowsFromText(std::string_view text, const std::string& origin, const RowVisitor& visit);

}  // namespace rollcall
