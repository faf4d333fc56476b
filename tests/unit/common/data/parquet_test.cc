#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/common/data/data_files.h"
#include "services/common/data/parquet_program.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

StatusOr<std::vector<RowJson>> Rows(const std::string& path, int64_t max_rows = 0) {
  std::vector<RowJson> rows;
  ROLLCALL_RETURN_IF_ERROR(ReadRows({&path, 1}, {.max_rows = max_rows}, [&](const DataRow& row) {
    rows.push_back(row.value);
    return OkStatus();
  }));
  return rows;
}

std::string Bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Written once for all tests of the process.
const TempDir& Reference() {
  static const TempDir dir;
  static const bool written =
      testing::RunPython("tests/unit/common/data/reference_parquet.py", dir.path().string()) == 0;
  REQUIRE(written);
  return dir;
}

std::string Refusal(const std::string& name) {
  const std::string path = Reference().File("refused/" + name + ".parquet");
  const Status status = Rows(path).status();
  INFO(status.ToString());
  CHECK(status.code() == StatusCode::kInvalidArgument);
  const std::string message = Message(status);
  CHECK(message.starts_with(path + ": "));
  return message.substr(std::min(message.size(), path.size() + 2));
}

TEST_CASE("Parquet: rows are those that Python reads", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  int num_files = 0;
  for (const auto& entry : fs::directory_iterator(Reference().path())) {
    if (entry.path().extension() != ".parquet") continue;
    ++num_files;
    INFO(entry.path());
    REQUIRE_OK_AND_ASSIGN(const auto ours, Rows(entry.path().string()));
    REQUIRE_OK_AND_ASSIGN(const auto theirs,
                          Rows(fs::path(entry.path()).replace_extension(".jsonl").string()));
    REQUIRE(ours.size() == theirs.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      REQUIRE(ours[i].size() == theirs[i].size());
      auto expected = theirs[i].begin();
      for (const auto& [name, value] : ours[i].items()) {
        INFO("row " << i << ", column " << name);
        CHECK(name == expected.key());
        CHECK(value == expected.value());
        CHECK(value.type_name() == std::string(expected.value().type_name()));
        CHECK(value.is_number_float() == expected.value().is_number_float());
        ++expected;
      }
    }
  }
  CHECK(num_files == 11);
}

TEST_CASE("Parquet: the first rows alone", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  REQUIRE_OK_AND_ASSIGN(const auto rows, Rows(Reference().File("chat_zstd.parquet"), 70));
  REQUIRE(rows.size() == 70);
  CHECK(rows[69]["reward_model"]["ground_truth"] == "69");
}

TEST_CASE("Parquet: what cannot be a row is refused with row and column", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  CHECK(Refusal("binary") ==
        "column 'image.bytes': binary values have no JSON form; store text, or leave the column "
        "out");
  CHECK(Refusal("map").starts_with("column 'm': a map with int32 keys has no JSON form"));
  CHECK(Refusal("deep").find("nested deeper than 32") != std::string::npos);
  CHECK(Refusal("long").starts_with("row 2 (row group 0): the row has more than 16777216 bytes"));
  CHECK(Refusal("empty").starts_with("no rows"));
  CHECK(Refusal("utf8") == "row 2 (row group 0), column 'text': not UTF-8 at byte 1 of the text");
  CHECK(Refusal("twice") == "two columns are called 'a'");
  CHECK(Refusal("date") ==
        "row 2 (row group 0), column 'day': a date or time is outside of year 1 to 9999");
}

TEST_CASE("Parquet: a file that is cut off anywhere is refused", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  const std::string whole = Bytes(Reference().File("nested.parquet"));
  const TempDir dir;
  for (size_t size = 4; size < whole.size(); size += 1 + whole.size() / 60) {
    const std::string path = dir.Write("cut.parquet", whole.substr(0, size));
    const Status status = Rows(path).status();
    INFO(size << " of " << whole.size() << ": " << status.ToString());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).starts_with(path));
  }
}

TEST_CASE("Parquet: damaged bytes give rows or an error, and soon", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  const TempDir dir;
  CounterRandom random(11);
  int num_refused = 0;
  int num_crashed = 0;
  for (const char* name : {"types", "nested", "chat_snappy"}) {
    const std::string whole = Bytes(Reference().File(std::string(name) + ".parquet"));
    for (int round = 0; round < 60; ++round) {
      std::string bytes = whole;
      for (uint64_t flips = 1 + random.Below(8); flips > 0; --flips) {
        // Half of the damage hits the metadata at the end.
        const size_t span =
            random.Below(2) == 0 ? bytes.size() : std::min<size_t>(4096, bytes.size());
        bytes[bytes.size() - 1 - random.Below(span)] = static_cast<char>(random.Below(256));
      }
      const std::string path = dir.Write("damaged.parquet", bytes);
      const auto rows = Rows(path);
      if (rows.ok()) continue;
      ++num_refused;
      INFO(rows.status().ToString());
      CHECK(rows.status().code() != StatusCode::kInternal);
      CHECK(Message(rows.status()).starts_with(path));
      num_crashed += Message(rows.status()).find("crashed") != std::string::npos ? 1 : 0;
    }
  }
  CHECK(num_refused > 60);
  WARN(num_refused << " of 180 damaged files refused, " << num_crashed
                   << " by a crash of the reader");
}

TEST_CASE("Parquet: damage inside a column names it", "[unit][data]") {
  if (!testing::HasPython("pyarrow")) return;
  std::string bytes = Bytes(Reference().File("encodings.parquet"));
  // The first page's header; 5000 delta-packed numbers follow.
  for (size_t i = 4; i < 40; ++i) bytes[i] = '\xFF';
  const TempDir dir;
  const std::string path = dir.Write("damaged.parquet", bytes);
  const std::string message = Message(Rows(path).status());
  INFO(message);
  CHECK(message.starts_with(path + ": row group 0, column 'delta': "));
}

TEST_CASE("Parquet: a program that is missing, fails or stalls is told apart", "[unit][data]") {
  const TempDir dir;
  const std::string file = dir.Write("a.parquet", "PAR1");
  const auto run = [&](const std::string& script, absl::Duration patience = absl::Seconds(20)) {
    const std::string program = dir.Write("program", "#!/bin/sh\n" + script);
    fs::permissions(program, fs::perms::owner_all);
    return RunParquetProgram(file, {.program = program, .patience = patience},
                             [](std::string_view) { return OkStatus(); });
  };
  const Status missing = RunParquetProgram(file, {.program = dir.File("none")},
                                           [](std::string_view) { return OkStatus(); });
  CHECK(missing.code() == StatusCode::kFailedPrecondition);
  CHECK(Message(missing).starts_with("this build cannot read Parquet: "));
  CHECK(run("exit 0").ok());
  CHECK(Message(run("echo first >&2; echo why >&2; exit 1")) == "why");
  CHECK(run("exit 2").code() == StatusCode::kInternal);
  CHECK(Message(run("kill -SEGV $$")).find("crashed on this file (SIGSEGV)") != std::string::npos);
  CHECK(Message(run("sleep 60", absl::Milliseconds(50))).find("wrote nothing for 50ms") !=
        std::string::npos);
  // An error of the reader ends the program, however much more it would write.
  const std::string program = dir.Write("endless", "#!/bin/sh\nyes\n");
  fs::permissions(program, fs::perms::owner_all);
  CHECK(Message(RunParquetProgram(file, {.program = program}, [](std::string_view) {
          return Cancelled("enough");
        })) == "enough");
}

}  // namespace
}  // namespace rollcall
