#include "services/common/data/data_files.h"

#include <filesystem>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "services/base/runtime/random.h"
#include "services/common/data/line_splitter.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;
using Strings = std::vector<std::string>;

StatusOr<Strings> Texts(const Strings& files, const ReadRowsOptions& options = {}) {
  Strings texts;
  ROLLCALL_RETURN_IF_ERROR(ReadRows(files, options, [&](const DataRow& row) {
    texts.emplace_back(row.text);
    return OkStatus();
  }));
  return texts;
}

std::string Refusal(std::string_view text) {
  const Status status =
      ReadRowsFromText(text, "p.jsonl", [](const DataRow&) { return OkStatus(); });
  CHECK(status.code() == StatusCode::kInvalidArgument);
  return Message(status);
}

TEST_CASE("ReadRows: CRLF, blank lines, a byte order mark, no final newline", "[unit][data]") {
  const TempDir dir;
  const std::string path = dir.Write(
      "p.jsonl", "\xEF\xBB\xBF{\"p\": \"a\"}\r\n\r\n  \n\t{\"p\": \"b\"} \n{\"p\":\"c\"}");
  REQUIRE_OK_AND_ASSIGN(const Strings rows, Texts({path}));
  CHECK(rows == Strings{"{\"p\": \"a\"}", "{\"p\": \"b\"}", "{\"p\":\"c\"}"});
}

TEST_CASE("ReadRows: errors carry file and line", "[unit][data]") {
  CHECK(Refusal("{}\n\n{\"a\": }\n") == "p.jsonl:3: not JSON at byte 7 of the line");
  CHECK(Refusal("{}\n[1]\n") == "p.jsonl:2: expected a JSON object, got array");
  CHECK(Refusal("{}\r\n{\"a\": 1").starts_with("p.jsonl:2: not JSON at byte"));
  CHECK(Refusal("[\n{}\n]")
            .starts_with("p.jsonl:1: one JSON object a line is wanted, not one array: "));
  CHECK(Refusal("{\"a\": \"" + std::string(17 << 20, 'x') + "\"}") ==
        "p.jsonl: line 1 has more than 16781312 bytes");
  CHECK(Refusal("") == "p.jsonl: no rows; expected one JSON object a line");
  CHECK(Refusal("\n \r\n") == "p.jsonl: no rows; expected one JSON object a line");
  const Status visitor = ReadRowsFromText("{}\n\n{\"a\": 1}", "p.jsonl", [](const DataRow& row) {
    return row.value.empty() ? OkStatus() : InvalidArgument("no 'a' please");
  });
  CHECK(Message(visitor) == "p.jsonl:3: no 'a' please");
}

TEST_CASE("ReadRows: files that are none are named", "[unit][data]") {
  const TempDir dir;
  const Status missing = Texts({"/nonexistent/p.jsonl"}).status();
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(Message(missing) == "/nonexistent/p.jsonl: no such file");
  CHECK(Message(Texts({dir.path().string()}).status()).find("a directory") != std::string::npos);
  REQUIRE(mkfifo(dir.File("pipe").c_str(), 0600) == 0);
  CHECK(Message(Texts({dir.File("pipe")}).status()) == dir.File("pipe") + ": not a regular file");
  CHECK(Message(Texts({"/dev/zero"}).status()) == "/dev/zero: not a regular file");
  const std::string gzip = dir.Write("p.jsonl.gz", "\x1F\x8B\x08 something");
  CHECK(Message(Texts({gzip}).status()).starts_with(gzip + ": compressed with gzip"));
  const std::string fake = dir.Write("p.parquet", "{\"a\": 1}\n");
  CHECK(Message(Texts({fake}).status()) ==
        fake + ": not a Parquet file: it does not begin with PAR1");
}

TEST_CASE("ReadRows: several files are one, up to the limit", "[unit][data]") {
  const TempDir dir;
  const std::string a = dir.Write("a.jsonl", "{\"i\":0}\n{\"i\":1}\n");
  const std::string b = dir.Write("b.jsonl", "{\"i\":2}\n{\"i\":3}");
  const std::string bad = dir.Write("c.jsonl", "nonsense");
  CHECK(*Texts({a, b}) == Strings{"{\"i\":0}", "{\"i\":1}", "{\"i\":2}", "{\"i\":3}"});
  CHECK(*Texts({a, b}, {.max_rows = 3}) == Strings{"{\"i\":0}", "{\"i\":1}", "{\"i\":2}"});
  CHECK(*Texts({a, bad}, {.max_rows = 2}) == Strings{"{\"i\":0}", "{\"i\":1}"});
  CHECK(Message(Texts({a, bad}).status()).starts_with(bad + ":1: not JSON"));
  const std::string empty = dir.Write("d.jsonl", "\n");
  CHECK(Message(Texts({a, empty}).status()).starts_with(empty + ": no rows"));
}

TEST_CASE("ReadRows: random garbage is refused with a line, never a crash", "[unit][data]") {
  const std::string good = "{\"prompt\": \"sort 12 = \", \"answer\": \"12\"}\n";
  CounterRandom random(3);
  for (int round = 0; round < 500; ++round) {
    std::string text = good + good + good;
    const size_t place = random.Below(text.size());
    text[place] = static_cast<char>(random.Below(256));
    const Status status = ReadRowsFromText(text, "g", [](const DataRow&) { return OkStatus(); });
    if (!status.ok()) CHECK(Message(status).starts_with("g:"));
  }
}

TEST_CASE("LineSplitter: pieces of any size give the same lines", "[unit][data]") {
  const std::string text = "one\n\ntwo two\nthree";
  for (size_t size = 1; size <= text.size(); ++size) {
    Strings lines;
    LineSplitter splitter(8, [&](int64_t number, std::string_view line) {
      CHECK(number == static_cast<int64_t>(lines.size()) + 1);
      lines.emplace_back(line);
      return true;
    });
    for (size_t i = 0; i < text.size(); i += size) {
      REQUIRE_OK(splitter.Add(std::string_view(text).substr(i, size)));
    }
    REQUIRE_OK(splitter.Finish());
    CHECK(lines == Strings{"one", "", "two two", "three"});
  }
}

TEST_CASE("LineSplitter: a line past the limit is an error, however it comes", "[unit][data]") {
  LineSplitter splitter(3, [](int64_t, std::string_view) { return true; });
  REQUIRE_OK(splitter.Add("abc\nab"));
  CHECK(Message(splitter.Add("cd")) == "line 2 has more than 3 bytes");
}

TEST_CASE("LineSplitter: stops where it is told to", "[unit][data]") {
  int64_t last = 0;
  LineSplitter splitter(3, [&](int64_t number, std::string_view) {
    last = number;
    return number < 2;
  });
  REQUIRE_OK(splitter.Add("a\nb\nc\n"));
  REQUIRE_OK(splitter.Finish());
  CHECK(splitter.ended());
  CHECK(last == 2);
}

class Folder {
 public:
  explicit Folder(const Strings& names) {
    for (const std::string& name : names) {
      std::filesystem::create_directories((dir_.path() / name).parent_path());
      dir_.Write(name, "{}\n");
    }
  }
  std::string File(const std::string& name) const { return dir_.File(name); }
  std::string path() const { return dir_.path().string(); }
  // Names below the folder, or the error without the folder's path.
  Strings Find(const Strings& names, const std::string& split = "") const {
    Strings paths;
    for (const std::string& name : names) paths.push_back(name.empty() ? path() : File(name));
    const auto found = FindDataFiles(paths, split);
    if (!found.ok()) return {"error: " + Without(Message(found.status()))};
    Strings relative;
    for (const std::string& file : *found) relative.push_back(Without(file));
    return relative;
  }

 private:
  std::string Without(std::string text) const {
    const size_t at = text.find(path());
    if (at == std::string::npos) return text;
    text.erase(at, path().size());
    return text.starts_with('/') ? text.substr(1) : text;
  }
  TempDir dir_;
};

TEST_CASE("FindDataFiles: files, patterns and directories", "[unit][data]") {
  const Folder folder({"b.jsonl", "a.jsonl", "c.parquet", "notes.txt", "x[1].jsonl"});
  CHECK(folder.Find({"b.jsonl", "a.jsonl"}) == Strings{"b.jsonl", "a.jsonl"});
  CHECK(folder.Find({"?.jsonl"}) == Strings{"a.jsonl", "b.jsonl"});
  CHECK(folder.Find({"x[1].jsonl"}) == Strings{"x[1].jsonl"});
  CHECK(folder.Find({""}) == Strings{"a.jsonl", "b.jsonl", "c.parquet", "x[1].jsonl"});
  CHECK(folder.Find({"missing.jsonl"}) == Strings{"missing.jsonl"});  // read, and refused, later
  CHECK(folder.Find({"*.arrow"})[0].find("no file matches") != std::string::npos);
  CHECK(folder.Find({"a.jsonl", "?.jsonl"})[0].find("named twice") != std::string::npos);
}

TEST_CASE("FindDataFiles: splits of a directory as the hub lays them out", "[unit][data]") {
  const Folder folder({"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
                       "data/test-00000-of-00001.parquet", "README.md"});
  CHECK(folder.Find({""}, "train") ==
        Strings{"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"});
  CHECK(folder.Find({""}, "eval") == Strings{"data/test-00000-of-00001.parquet"});
  CHECK(folder.Find({"data/*.parquet"}, "test") == Strings{"data/test-00000-of-00001.parquet"});
  CHECK(folder.Find({""})[0].find("splits train and test; say which with data.split") !=
        std::string::npos);
  CHECK(folder.Find({""}, "validation")[0].find("no file of split 'validation'") !=
        std::string::npos);
  const Folder empty({"README.md"});
  CHECK(empty.Find({""})[0].find("has no .jsonl, .ndjson or .parquet files") != std::string::npos);
}

}  // namespace
}  // namespace rollcall
