#include "services/common/data/row_json.h"

#include <string>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::string Refusal(std::string_view text) {
  const auto row = ParseRow(text);
  CHECK(row.status().code() == StatusCode::kInvalidArgument);
  return Message(row.status());
}

TEST_CASE("ParseRow: says what is wrong and where", "[unit][data]") {
  CHECK(Refusal("{\"a\": }") == "not JSON at byte 7 of the line");
  CHECK(Refusal("{\"a\": \"\xFF\"}") == "not UTF-8 at byte 8 of the line");
  CHECK(Refusal("[1]") == "expected a JSON object, got array");
  CHECK(Refusal("{\"a\": 1").starts_with("not JSON at byte"));
  CHECK(Refusal("{\"a\": 1} {\"a\": 2}").starts_with("not JSON"));
  CHECK(Refusal("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}") ==
        "nested deeper than 64");
  CHECK(Refusal("{\"a\":" + std::string(1 << 20, '[')) == "nested deeper than 64");
  CHECK(Refusal("{\"a\": \"" + std::string(17 << 20, 'x') + "\"}")
            .starts_with("the row has 17825801"));
  CHECK(Refusal("").starts_with("not JSON"));
}

TEST_CASE("ParseRow: keeps the order of keys", "[unit][data]") {
  REQUIRE_OK_AND_ASSIGN(const RowJson row, ParseRow(R"({"z": 1, "a": {"y": 2, "b": 3}})"));
  CHECK(row.dump() == R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST_CASE("FindColumn: its own name first, then a path", "[unit][data]") {
  REQUIRE_OK_AND_ASSIGN(
      const RowJson row,
      ParseRow(R"({"a": {"b": {"c": 1}, "n": null}, "a.x": 2, "t": "text", "n": null})"));
  CHECK(*FindColumn(row, "a.b.c") == 1);
  CHECK(*FindColumn(row, "a.x") == 2);
  CHECK(FindColumn(row, "a.b")->is_object());
  for (const char* absent :
       {"", ".", "a.", ".a", "a..b", "b", "a.c", "a.b.c.d", "t.x", "n", "a.n"}) {
    INFO(absent);
    CHECK(FindColumn(row, absent) == nullptr);
  }
}

TEST_CASE("RowAnswer: texts and numbers of a named column", "[unit][data]") {
  const std::string row =
      R"({"t": "x y", "i": 42, "f": 0.5, "n": null, "b": true, "o": {"p": "deep"}})";
  CHECK(*RowAnswer(row, "t") == "x y");
  CHECK(*RowAnswer(row, "i") == "42");
  CHECK(*RowAnswer(row, "f") == "0.5");
  CHECK(*RowAnswer(row, "o.p") == "deep");
  CHECK(RowAnswer(row, "n").status().code() == StatusCode::kNotFound);
  CHECK(RowAnswer(row, "absent").status().code() == StatusCode::kNotFound);
  CHECK(Message(RowAnswer(row, "b").status()) ==
        "field 'b' is neither a text nor a number but boolean");
  CHECK(RowAnswer(row, "o").status().code() == StatusCode::kInvalidArgument);
  CHECK(RowAnswer("nonsense", "t").status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("RowAnswer: finds the ground truth where data sets keep it", "[unit][data]") {
  CHECK(*RowAnswer(R"({"answer": "1", "ground_truth": "2"})", "") == "1");
  CHECK(*RowAnswer(R"({"answer": null, "ground_truth": "2"})", "") == "2");
  CHECK(*RowAnswer(R"({"reward_model": {"style": "rule", "ground_truth": "3"}})", "") == "3");
  CHECK(*RowAnswer(R"({"reward_spec": {"method": "rule", "ground_truth": 4}})", "") == "4");
  CHECK(RowAnswer(R"({"prompt": "p"})", "").status().code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace rollcall
