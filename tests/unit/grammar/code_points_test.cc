#include "services/grammar/code_points.h"

#include <array>
#include <string>

#include "services/base/runtime/random.h"
#include "services/common/text/utf8.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

// How many of the sequences have a text.
int NumMatches(const std::vector<Utf8Sequence>& sequences, const std::string& text) {
  int matches = 0;
  for (const Utf8Sequence& sequence : sequences) {
    bool fits = sequence.size() == text.size();
    for (size_t i = 0; fits && i < text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      fits = sequence[i].first <= byte && byte <= sequence[i].last;
    }
    matches += fits ? 1 : 0;
  }
  return matches;
}

}  // namespace

TEST_CASE("CodePoints: sets worked by hand", "[unit][grammar]") {
  CHECK(MakeCodePointSet({{'c', 'd'}, {'a', 'b'}, {'x', 'x'}}) ==
        CodePointSet{{'a', 'd'}, {'x', 'x'}});
  CHECK(Complement({}) == CodePointSet{{0, 0xD7FF}, {0xE000, kMaxCodePoint}});
  CHECK(Complement(Complement({{'a', 'z'}})) == CodePointSet{{'a', 'z'}});
  CHECK(Intersect({{1, 5}, {8, 9}}, {{3, 8}}) == CodePointSet{{3, 5}, {8, 8}});
}

TEST_CASE("CodePoints: UTF-8 ranges hold each character of the set once", "[unit][grammar]") {
  CounterRandom random(3);
  const std::array<uint32_t, 5> scales = {0x90, 0x900, 0x12000, 0x40000, kMaxCodePoint + 1};
  for (int round = 0; round < 300; ++round) {
    std::vector<CodePointRange> ranges;
    for (uint64_t i = 0; i < 1 + random.Below(3); ++i) {
      const uint32_t scale = scales[random.Below(scales.size())];
      const auto first = static_cast<uint32_t>(random.Below(scale));
      ranges.push_back({first, first + static_cast<uint32_t>(random.Below(scale))});
    }
    const CodePointSet set = MakeCodePointSet(ranges);
    const std::vector<Utf8Sequence> sequences = Utf8Sequences(set);
    std::vector<uint32_t> probes;
    for (const CodePointRange& range : set) {
      for (const uint32_t c : {range.first, range.last, range.first - 1, range.last + 1}) {
        probes.push_back(c);
      }
    }
    for (int i = 0; i < 200; ++i) {
      probes.push_back(static_cast<uint32_t>(random.Below(scales[random.Below(scales.size())])));
    }
    for (const uint32_t c : probes) {
      if (c > kMaxCodePoint || (c >= 0xD800 && c <= 0xDFFF)) continue;
      std::string text;
      AppendUtf8(c, &text);
      REQUIRE(NumMatches(sequences, text) == (Contains(set, c) ? 1 : 0));
    }
  }
}

}  // namespace rollcall
