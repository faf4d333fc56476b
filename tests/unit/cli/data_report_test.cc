#include "services/cli/data_report.h"

#include <string>
#include <vector>

#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using Kinds = std::vector<ExampleKind>;

class File {
 public:
  explicit File(const std::string& text) : path_(dir_.Write("rows.jsonl", text)) {}
  const std::string& path() const { return path_; }
  DataInspection inspection() const { return {.files = {path_}}; }

 private:
  testing::TempDir dir_;
  std::string path_;
};

TEST_CASE("InspectData: columns with their types, and what the rows can be used as",
          "[unit][cli]") {
  const File file(R"({"prompt": "p", "answer": 1, "tags": ["a"]})"
                  "\n"
                  R"({"prompt": "q", "answer": "2", "extra": {"i": 1}, "tags": null})");
  REQUIRE_OK_AND_ASSIGN(const DataReport report, InspectData(file.inspection()));
  CHECK(report.num_rows == 2);
  CHECK(report.size_bytes > 40);
  CHECK(report.example == R"({"prompt": "p", "answer": 1, "tags": ["a"]})");
  CHECK(report.columns.at("prompt").types == std::set<std::string>{"text"});
  CHECK(report.columns.at("answer").types == std::set<std::string>{"text", "whole number"});
  CHECK(report.columns.at("extra").num_rows == 1);
  CHECK(report.columns.at("tags").types == std::set<std::string>{"list of text"});
  CHECK(report.columns.at("tags").num_rows == 1);
  CHECK(report.kinds == Kinds{ExampleKind::kPrompts});
  CHECK(report.refused.empty());
  CHECK_FALSE(report.prompt_tokens.has_value());
}

TEST_CASE("InspectData: a kind that the columns speak for and a row breaks says why",
          "[unit][cli]") {
  const File file(R"({"prompt": "p", "completion": "c"})"
                  "\n"
                  R"({"prompt": "p", "completion": 5})");
  REQUIRE_OK_AND_ASSIGN(const DataReport report, InspectData(file.inspection()));
  CHECK(report.kinds == Kinds{ExampleKind::kPrompts});
  REQUIRE(report.refused.size() == 1);
  CHECK(report.refused[0].first == ExampleKind::kCompletions);
  CHECK(report.refused[0].second ==
        file.path() + ":2: field 'completion' is neither a text nor a conversation but number");
  DataInspection wanted = file.inspection();
  wanted.kind = ExampleKind::kCompletions;
  CHECK(Message(InspectData(wanted).status()) == report.refused[0].second);
}

TEST_CASE("InspectData: lengths in tokens", "[unit][cli]") {
  std::string rows;
  for (int i = 1; i <= 200; ++i) {
    rows += R"({"prompt": ")" + std::string(static_cast<size_t>(i), 'x') +
            R"(", "completion": "cc"})" + "\n";
  }
  const File file(rows);
  REQUIRE_OK_AND_ASSIGN(const auto tokenizer, ParseTokenizer(ByteTokenizerJson(), "t.json"));
  ExampleEncoding encoding{.tokenizer = *tokenizer};
  encoding.end_token = 256;
  DataInspection inspection = file.inspection();
  inspection.encoding = &encoding;
  REQUIRE_OK_AND_ASSIGN(const DataReport report, InspectData(inspection));
  REQUIRE(report.prompt_tokens.has_value());
  CHECK(report.prompt_tokens->median == 100);
  CHECK(report.prompt_tokens->p90 == 180);
  CHECK(report.prompt_tokens->p99 == 198);
  CHECK(report.prompt_tokens->longest == 200);
  CHECK(report.completion_tokens->longest == 3);
}

TEST_CASE("InspectData: a file that does not read is an error", "[unit][cli]") {
  const File file("{\n");
  CHECK(Message(InspectData(file.inspection()).status()).starts_with(file.path() + ":1: not JSON"));
}

}  // namespace
}  // namespace rollcall
