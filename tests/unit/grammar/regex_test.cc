#include "services/grammar/regex.h"

#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "services/common/text/utf8.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/grammar/grammar_text.h"

namespace rollcall {
namespace {

using testing::Accepts;

ByteAutomaton Compile(std::string_view pattern) {
  REQUIRE_OK_AND_ASSIGN(ByteAutomaton automaton, CompileRegex(pattern));
  return automaton;
}

// A random pattern over few letters, in syntax that Python's re reads the same way.
std::string RandomPattern(CounterRandom* random, int depth) {
  static const std::vector<std::string> kAtoms = {"a",
                                                  "b",
                                                  "ab",
                                                  ".",
                                                  "[ab]",
                                                  "[^a]",
                                                  "\\d",
                                                  "\\w",
                                                  "[a-c0-2]",
                                                  "\\.",
                                                  "(?:)",
                                                  "\xC3\xA9",
                                                  "[\xC3\xA9-\xE2\x82\xAC]",
                                                  "\\x41",
                                                  "\\u00e9",
                                                  "\\n",
                                                  "[\\]\\-]",
                                                  "\\s",
                                                  "[^\\W_]"};
  static const std::vector<std::string> kRepeats = {"*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"};
  std::string pattern;
  const uint64_t length = 1 + random->Below(3);
  for (uint64_t i = 0; i < length; ++i) {
    std::string item = kAtoms[random->Below(kAtoms.size())];
    if (depth > 0 && random->Below(3) == 0) {
      item = (random->Below(2) == 0 ? "(" : "(?:") + RandomPattern(random, depth - 1) + ")";
    } else if (item == "ab") {
      item = "(?:ab)";
    }
    if (random->Below(3) == 0) item += kRepeats[random->Below(kRepeats.size())];
    pattern += item;
  }
  if (random->Below(4) == 0) pattern += "|" + RandomPattern(random, 0);
  return pattern;
}

}  // namespace

TEST_CASE("Regex: worked by hand", "[unit][grammar]") {
  const ByteAutomaton number = Compile("-?\\d{1,3}(\\.\\d+)?");
  for (const char* yes : {"0", "-12", "999", "3.25", "-0.000"}) CHECK(Accepts(number, yes));
  for (const char* no : {"", "-", "1234", "3.", ".5", "1.2.3", "x"}) CHECK(!Accepts(number, no));
  const ByteAutomaton any = Compile("^(?P<word>yes|no)!{2,}$|[^x-z\\n]");
  for (const char* yes : {"yes!!", "no!!!!", "a", "\xE2\x82\xAC"}) CHECK(Accepts(any, yes));
  for (const char* no : {"yes!", "x", "\n", "ab", "\xE2\x82"}) CHECK(!Accepts(any, no));
  CHECK(Accepts(Compile(""), ""));
  CHECK(!Accepts(Compile(""), "a"));
  CHECK(Accepts(Compile("a{,3}b{x"), "a{,3}b{x"));  // braces that bound nothing
  CHECK(!Accepts(Compile("."), "\xED\xA0\x80"));    // a surrogate is no character
}

TEST_CASE("Regex: what is wrong or not supported is refused with its place", "[unit][grammar]") {
  struct Case {
    const char* pattern;
    const char* message;
  };
  for (const Case& item : {Case{"(a", "without its )"},
                           Case{"a)", "without its ("},
                           Case{"[a", "without its ]"},
                           Case{"*a", "nothing to repeat"},
                           Case{"a|{2}", "nothing to repeat"},
                           Case{"a**", "repetition of a repetition"},
                           Case{"a++", "possessive"},
                           Case{"a{3,2}", "wrong way round"},
                           Case{"a{10001}", "bounded by"},
                           Case{"(?=a)", "only (?:...)"},
                           Case{"(?<!a)b", "only (?:...)"},
                           Case{"(?i)a", "only (?:...)"},
                           Case{"\\1", "\\1 is not supported"},
                           Case{"\\bword", "\\b is not supported"},
                           Case{"\\p{L}", "\\p is not supported"},
                           Case{"[[:alpha:]]", "POSIX"},
                           Case{"[z-a]", "wrong ends"},
                           Case{"[a-\\d]", "wrong ends"},
                           Case{"a^b", "^ is supported"},
                           Case{"a$b", "$ is supported"},
                           Case{"(^a)", "inside a group"},
                           Case{"\\x{110000}", "no character"},
                           Case{"\\ud800", "no character"},
                           Case{"a\\", "at the end"},
                           Case{"\xFF", "not UTF-8"},
                           Case{"[^\\d\\D]", "matches nothing"},
                           Case{"(((a{99}){99}){99}){99}", "states"}}) {
    const Status status = CompileRegex(item.pattern).status();
    INFO(item.pattern << " " << status.ToString());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find(item.message) != std::string::npos);
  }
  CHECK(!CompileRegex(std::string(1000, '(')).ok());
  CHECK(!CompileRegex(std::string(70'000, 'a')).ok());
}

TEST_CASE("Regex: agrees with Python's re", "[unit][grammar][python]") {
  if (!testing::HasPython("re")) return;
  CounterRandom random(42);
  nlohmann::json cases = nlohmann::json::array();
  for (int i = 0; i < 400; ++i) {
    const std::string pattern = RandomPattern(&random, 2);
    const auto automaton = CompileRegex(pattern);
    if (!automaton.ok()) continue;  // a repetition of a lazy one, or nothing matches
    nlohmann::json texts = nlohmann::json::array();
    for (int t = 0; t < 20; ++t) {
      std::string text;
      if (t % 2 == 0) {
        text = testing::RandomText(*automaton, 40, &random).value_or("a");
      } else {
        static const std::vector<std::string> kPieces = {"a", "b", "0",  "2", "\xC3\xA9",    "A",
                                                         "_", " ", "\n", ".", "\xE2\x82\xAC"};
        for (uint64_t n = random.Below(6); n > 0; --n)
          text += kPieces[random.Below(kPieces.size())];
      }
      // Python's re reads characters: bytes that are none cannot be asked about.
      if (FindInvalidUtf8(text) != text.size()) FAIL("a text of the grammar is not UTF-8");
      texts.push_back({text, Accepts(*automaton, text)});
    }
    cases.push_back({{"pattern", pattern}, {"texts", texts}});
  }
  REQUIRE(cases.size() > 250);
  const testing::TempDir dir;
  std::ofstream(dir.File("cases.json")) << cases;
  CHECK(testing::RunPython("tests/unit/grammar/reference_regex.py", dir.File("cases.json")) == 0);
}

}  // namespace rollcall
