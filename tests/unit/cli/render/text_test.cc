#include "services/cli/render/text.h"

#include <cmath>

#include "services/cli/render/bar.h"
#include "services/cli/render/curve.h"
#include "services/cli/render/table.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

const TerminalStyle kPlain = {.width = 80, .height = 24, .color = false};
const TerminalStyle kColor = {.width = 80, .height = 24, .color = true};

TEST_CASE("DisplayWidth: counts columns, not bytes", "[unit][cli]") {
  CHECK(DisplayWidth("") == 0);
  CHECK(DisplayWidth("abc") == 3);
  CHECK(DisplayWidth("Größe") == 5);
  CHECK(DisplayWidth("日本") == 4);
  CHECK(DisplayWidth("e\xCC\x81") == 1);  // a combining accent
  CHECK(DisplayWidth("\x1b[31mred\x1b[0m") == 3);
  CHECK(DisplayWidth("\xff\xfe") == 2);
}

TEST_CASE("OneLine: text from a model cannot control the terminal", "[unit][cli]") {
  CHECK(OneLine("a\nb\tc") == "a\\nb\\tc");
  CHECK(OneLine("\x1b[2J\x1b]0;title\x07") == "\\x1b[2J\\x1b]0;title\\x07");
  CHECK(OneLine("\xC2\x9B"
                "31m") == "\\x9b31m");  // one-character CSI
  CHECK(OneLine("\xE2\x80\xAE"
                "evil") == "\\u202eevil");  // right-to-left override
  CHECK(OneLine("\xff!") == "?!");
  CHECK(OneLine("\xE2\x82") == "??");
  CHECK(OneLine("\xED\xA0\x80") == "???");  // a surrogate
  CHECK(OneLine("Größe 日本") == "Größe 日本");
}

TEST_CASE("Truncate: never wider than asked, colours are closed", "[unit][cli]") {
  CHECK(Truncate("abcdef", 6) == "abcdef");
  CHECK(Truncate("abcdef", 5) == "abcd…");
  CHECK(Truncate("abcdef", 1) == "…");
  CHECK(Truncate("abcdef", 0).empty());
  CHECK(Truncate("日本語", 4) == "日…");
  CHECK(Truncate("\x1b[31mabcdef\x1b[0m", 3) == "\x1b[31mab…\x1b[0m");
  for (int width = 0; width < 12; ++width) {
    CHECK(DisplayWidth(Truncate("a日b本c語d", width)) <= width);
  }
}

TEST_CASE("Human units: a few digits and a unit", "[unit][cli]") {
  CHECK(HumanBytes(0) == "0 B");
  CHECK(HumanBytes(1536) == "1.5 KiB");
  CHECK(HumanBytes(1024 * 1024 - 1) == "1.0 MiB");
  CHECK(HumanBytes(640.0 * 1024 * 1024) == "640 MiB");
  CHECK(HumanCount(950) == "950");
  CHECK(HumanCount(4'600'000) == "4.6 M");
  CHECK(HumanSeconds(0.44) == "0.4 s");
  CHECK(HumanSeconds(59.4) == "59 s");
  CHECK(HumanSeconds(59.6) == "1m 00s");
  CHECK(HumanSeconds(125) == "2m 05s");
  CHECK(HumanSeconds(11'400) == "3h 10m");
  CHECK(HumanSeconds(187'200) == "2d 04h");
  CHECK(HumanSeconds(std::nan("")) == "-");
  CHECK(HumanNumber(0.0000123456) == "1.235e-05");
  CHECK(HumanNumber(INFINITY) == "-");
  CHECK(HumanShare(0.6123) == "61.2 %");
}

TEST_CASE("Paint: nothing without colours", "[unit][cli]") {
  CHECK(Paint(kPlain, Ink::kRed, "x") == "x");
  CHECK(Paint(kColor, Ink::kRed, "x") == "\x1b[31mx\x1b[0m");
}

TEST_CASE("ProgressBar: exactly as wide as asked, by eighths", "[unit][cli]") {
  CHECK(ProgressBar(0, 4) == "░░░░");
  CHECK(ProgressBar(0.5, 4) == "██░░");
  CHECK(ProgressBar(1, 4) == "████");
  CHECK(ProgressBar(0.5 + 1.0 / 32, 4) == "██▏░");
  CHECK(ProgressBar(7, 2) == "██");
  CHECK(ProgressBar(std::nan(""), 2) == "░░");
  CHECK(ProgressBar(0.5, -1).empty());
  for (int i = 0; i <= 100; ++i) CHECK(DisplayWidth(ProgressBar(i / 100.0, 13)) == 13);
}

TEST_CASE("Curve: rises to the right, labelled with its bounds", "[unit][cli]") {
  const std::vector<double> line = {0, 1, 2, 3};
  const std::vector<std::string> rows = Curve(line, {.width = 12, .height = 1});
  REQUIRE(rows.size() == 1);
  // Two columns of dots in each character, one value in each: 0 1 | 2 3 from the bottom.
  CHECK(rows[0] == "       3 ┤⡠⠊");

  const std::vector<double> flat = {5, 5, 5, 5};
  const std::vector<std::string> flat_rows = Curve(flat, {.width = 12, .height = 1});
  REQUIRE(flat_rows.size() == 1);
  CHECK(flat_rows[0] == "       5 ┤⠤⠤");
}

TEST_CASE("Curve: gaps, extremes and too little room", "[unit][cli]") {
  const std::vector<double> nothing = {std::nan(""), INFINITY};
  CHECK(Curve(nothing, {}).empty());
  CHECK(Curve({}, {}).empty());
  CHECK(Curve(std::vector<double>{1, 2}, {.width = 11, .height = 4}).empty());

  std::vector<double> many;
  for (int i = 0; i < 10'000; ++i) many.push_back(std::sin(i / 1000.0));
  many[17] = std::nan("");
  for (const int width : {12, 40, 100}) {
    const std::vector<std::string> rows = Curve(many, {.width = width, .height = 6});
    REQUIRE(rows.size() == 6);
    for (const std::string& row : rows) CHECK(DisplayWidth(row) == width);
  }
}

TEST_CASE("Table: columns line up and the flexible one gives way", "[unit][cli]") {
  Table table({{.title = "JOB"},
               {.title = "STEP", .align = Align::kRight},
               {.title = "REASON", .flexible = true}});
  table.AddRow({"a-1", "5/100", "waits for 2 learners of 2"});
  table.AddRow({"long-name", "100/100"});
  table.AddRow({"b", "1/1", "bad\x1b\nline"});
  CHECK(table.Render(kPlain) == std::vector<std::string>{
                                    "JOB           STEP  REASON",
                                    "a-1          5/100  waits for 2 learners of 2",
                                    "long-name  100/100",
                                    "b              1/1  bad\\x1b\\nline",
                                });
  const std::vector<std::string> narrow = table.Render({.width = 32, .color = false});
  CHECK(narrow[1] == "a-1          5/100  waits for 2…");
  for (const std::string& line : narrow) CHECK(DisplayWidth(line) <= 32);
}

}  // namespace
}  // namespace rollcall
