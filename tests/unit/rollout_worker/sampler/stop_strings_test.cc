#include "rollout_worker/sampler/stop_strings.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

// Tokens are the pieces themselves.
StopStrings Watch(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  return {std::move(stops), [pieces](int32_t token) { return pieces[token]; }};
}

// Tokens read until the end; pieces.size() + 1 when there is none.
size_t ReadAll(StopStrings& watcher, const std::vector<std::string>& pieces) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (watcher.EndsWith(static_cast<int32_t>(i))) return i + 1;
  }
  return pieces.size() + 1;
}

}  // namespace

TEST_CASE("StopStrings: a string is found across the borders of tokens", "[unit][sampler]") {
  const std::vector<std::string> pieces = {"one ", "\n", "\nObs", "erva", "tion: two", "more"};
  StopStrings watcher = Watch({"\nObservation:"}, pieces);
  CHECK(ReadAll(watcher, pieces) == 5);
  REQUIRE(watcher.match());
  CHECK(watcher.match()->begin == 5);
  CHECK(watcher.match()->end == 18);
  CHECK(watcher.num_shown_bytes() == 5);
  CHECK(watcher.num_text_bytes() == 22);
}

TEST_CASE("StopStrings: a mismatch falls back to the longest border", "[unit][sampler]") {
  const std::vector<std::string> pieces = {"aab", "aaba", "ab"};
  StopStrings watcher = Watch({"aabaab"}, {"aabaaabaab", "x"});
  CHECK(watcher.EndsWith(0));
  CHECK(watcher.match()->begin == 4);
  StopStrings second = Watch({"baabaab"}, pieces);
  CHECK(ReadAll(second, pieces) == 3);
  CHECK(second.match()->begin == 2);
}

TEST_CASE("StopStrings: of strings that end together the longest cuts", "[unit][sampler]") {
  const std::vector<std::string> pieces = {"x", "yz", "w"};
  StopStrings watcher = Watch({"z", "xyz", "yz"}, pieces);
  CHECK(ReadAll(watcher, pieces) == 2);
  CHECK(watcher.match()->begin == 0);
  CHECK(watcher.match()->stop == 1);
  // What ends first wins, though another would have begun earlier.
  StopStrings first = Watch({"xyzw", "y"}, pieces);
  CHECK(ReadAll(first, pieces) == 2);
  CHECK(first.match()->begin == 1);
}

TEST_CASE("StopStrings: what may still become a stop, or half a character, is not shown",
          "[unit][sampler]") {
  const std::vector<std::string> pieces = {"h\xC3", "\xA9\xE2", "\x82", "\xAC<", "e", "x"};
  StopStrings watcher = Watch({"<end>"}, pieces);
  std::vector<size_t> shown;
  for (int32_t i = 0; i < 6; ++i) {
    CHECK(!watcher.EndsWith(i));
    shown.push_back(watcher.num_shown_bytes());
  }
  CHECK(shown == std::vector<size_t>{1, 3, 3, 6, 6, 9});
}

TEST_CASE("StopStrings: the same answer for every way to cut the text", "[unit][sampler]") {
  const CounterRandom random(11);
  uint64_t draw = 0;
  const auto below = [&](int n) { return static_cast<int>(random.UniformAt(draw++) * n); };
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += static_cast<char>('a' + below(2));
    std::vector<std::string> stops(1 + below(3));
    for (std::string& stop : stops) {
      const int length = 1 + below(6);
      for (int i = 0; i < length; ++i) stop += static_cast<char>('a' + below(2));
    }
    // The definition: the smallest end of any occurrence, of those the smallest begin.
    size_t end = std::string::npos;
    size_t begin = std::string::npos;
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const std::pair<size_t, size_t> found = {at + stop.size(), at};
      std::tie(end, begin) = std::min(std::pair(end, begin), found);
    }
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t length = static_cast<size_t>(below(5));
      pieces.push_back(text.substr(at, length));
      at += length;
    }
    StopStrings watcher = Watch(stops, pieces);
    size_t shown = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const bool ended = watcher.EndsWith(static_cast<int32_t>(i));
      REQUIRE(ended == (end != std::string::npos && watcher.num_text_bytes() >= end));
      REQUIRE(watcher.num_shown_bytes() >= shown);
      shown = watcher.num_shown_bytes();
      if (end != std::string::npos) REQUIRE(shown <= begin);
      if (ended) break;
    }
    REQUIRE(watcher.match().has_value() == (end != std::string::npos));
    if (watcher.match()) {
      REQUIRE(watcher.match()->begin == begin);
      REQUIRE(watcher.match()->end == end);
    }
  }
}

TEST_CASE("StopStrings: empty and endless strings are refused", "[unit][sampler]") {
  CHECK(CheckStopStrings({"a", "b"}).ok());
  CHECK(CheckStopStrings({""}).code() == StatusCode::kInvalidArgument);
  CHECK(CheckStopStrings({std::string(1025, 'a')}).code() == StatusCode::kInvalidArgument);
  CHECK(CheckStopStrings(std::vector<std::string>(65, "a")).code() == StatusCode::kInvalidArgument);
}

}  // namespace rollcall
