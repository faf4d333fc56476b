#include "services/common/data/jsonl.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

std::string Refusal(std::string_view text, const std::vector<std::string>& fields = {}) {
  const auto rows = ParseJsonl(text, "p.jsonl", fields);
  CHECK(rows.status().code() == StatusCode::kInvalidArgument);
  return Message(rows.status());
}

TEST_CASE("ReadJsonl: CRLF, blank lines, a byte order mark, no final newline", "[unit][data]") {
  const testing::TempDir dir;
  const std::string path = dir.Write(
      "p.jsonl", "\xEF\xBB\xBF{\"p\": \"a\"}\r\n\r\n  \n\t{\"p\": \"b\"} \n{\"p\":\"c\"}");
  REQUIRE_OK_AND_ASSIGN(const auto rows, ReadJsonl(path, {"p"}));
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].json == "{\"p\": \"a\"}");
  CHECK(rows[1].json == "{\"p\": \"b\"}");
  CHECK(rows[2].json == "{\"p\":\"c\"}");
  for (int64_t i = 0; i < 3; ++i) CHECK(rows[i].id == i);
}

TEST_CASE("ParseJsonl: errors carry file and line", "[unit][data]") {
  CHECK(Refusal("{}\n\n{\"a\": }\n") == "p.jsonl:3: not JSON at byte 7 of the line");
  CHECK(Refusal("{\"a\": \"\xFF\"}") == "p.jsonl:1: not UTF-8 at byte 8 of the line");
  CHECK(Refusal("{}\n[1]\n") == "p.jsonl:2: expected a JSON object, got array");
  CHECK(Refusal("{}\r\n{\"a\": 1", {}).starts_with("p.jsonl:2: not JSON at byte"));
  CHECK(Refusal("{\"a\": \"\"}\n{\"b\": 1}", {"a"}) == "p.jsonl:2: field 'a' is missing");
  CHECK(Refusal("{\"a\": 5}", {"a"}) == "p.jsonl:1: field 'a' is not a text but number");
  CHECK(Refusal("{\"a\": 1} {\"a\": 2}").starts_with("p.jsonl:1: not JSON"));
  CHECK(Refusal("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}") ==
        "p.jsonl:1: nested deeper than 64");
  CHECK(Refusal("{\"a\": \"" + std::string(17 << 20, 'x') + "\"}")
            .starts_with("p.jsonl:1: the line has 17"));
}

TEST_CASE("ParseJsonl: a file without rows is an error", "[unit][data]") {
  CHECK(Refusal("") == "p.jsonl: no rows; expected one JSON object a line");
  CHECK(Refusal("\n \r\n") == "p.jsonl: no rows; expected one JSON object a line");
  CHECK(Message(ReadJsonl("/nonexistent/p.jsonl", {}).status()).find("/nonexistent/p.jsonl") !=
        std::string::npos);
}

TEST_CASE("ParseJsonl: random garbage is refused with a line, never a crash", "[unit][data]") {
  const std::string good = "{\"prompt\": \"sort 12 = \", \"answer\": \"12\"}\n";
  CounterRandom random(3);
  for (int round = 0; round < 500; ++round) {
    std::string text = good + good + good;
    const size_t place = random.Below(text.size());
    text[place] = static_cast<char>(random.Below(256));
    const auto rows = ParseJsonl(text, "g", {"prompt"});
    if (!rows.ok()) CHECK(Message(rows.status()).starts_with("g:"));
  }
}

TEST_CASE("RowField: texts and numbers", "[unit][data]") {
  const std::string row = R"({"t": "x y", "i": 42, "f": 0.5, "n": null, "b": true, "o": {}})";
  CHECK(*RowField(row, "t") == "x y");
  CHECK(*RowField(row, "i") == "42");
  CHECK(*RowField(row, "f") == "0.5");
  CHECK(RowField(row, "n").status().code() == StatusCode::kNotFound);
  CHECK(RowField(row, "absent").status().code() == StatusCode::kNotFound);
  CHECK(RowField(row, "b").status().code() == StatusCode::kInvalidArgument);
  CHECK(RowField(row, "o").status().code() == StatusCode::kInvalidArgument);
  CHECK(RowField("nonsense", "t").status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("PassOrder: a permutation that seed and pass fix", "[unit][data]") {
  std::set<std::vector<int64_t>> orders;
  for (const uint64_t seed : {0, 1}) {
    for (const int64_t pass : {0, 1, 2}) {
      std::vector<int64_t> order = PassOrder(seed, pass, 50, true);
      CHECK(order == PassOrder(seed, pass, 50, true));
      orders.insert(order);
      std::sort(order.begin(), order.end());
      CHECK(order == PassOrder(seed, pass, 50, false));
    }
  }
  CHECK(orders.size() == 6);
  CHECK(PassOrder(1, 0, 0, true).empty());
  CHECK(PassOrder(1, 0, 1, true) == std::vector<int64_t>{0});
}

TEST_CASE("PassOrder: every row is equally likely to come first", "[unit][data]") {
  constexpr int kRows = 4;
  constexpr int kPasses = 8000;
  std::vector<int> first(kRows);
  for (int pass = 0; pass < kPasses; ++pass) ++first[PassOrder(5, pass, kRows, true)[0]];
  // Binomial(8000, 1/4): standard deviation 39; six of them.
  for (const int count : first) CHECK(std::abs(count - kPasses / kRows) < 233);
}

}  // namespace
}  // namespace rollcall
