#include "services/grammar/code_points.h"

#include <algorithm>
#include <array>

namespace rollcall {
namespace {

constexpr CodePointRange kSurrogates{0xD800, 0xDFFF};
// Last code points of one, two, three and four bytes.
constexpr std::array<uint32_t, 4> kLastOfLength = {0x7F, 0x7FF, 0xFFFF, kMaxCodePoint};

int Encode(uint32_t c, std::array<uint8_t, 4>* bytes) {
  auto& b = *bytes;
  const auto tail = [](uint32_t x) { return static_cast<uint8_t>(0x80 | (x & 0x3F)); };
  if (c <= kLastOfLength[0]) {
    b[0] = static_cast<uint8_t>(c);
    return 1;
  }
  if (c <= kLastOfLength[1]) {
    b = {static_cast<uint8_t>(0xC0 | c >> 6), tail(c), 0, 0};
    return 2;
  }
  if (c <= kLastOfLength[2]) {
    b = {static_cast<uint8_t>(0xE0 | c >> 12), tail(c >> 6), tail(c), 0};
    return 3;
  }
  b = {static_cast<uint8_t>(0xF0 | c >> 18), tail(c >> 12), tail(c >> 6), tail(c)};
  return 4;
}

// A range whose ends have the same length. Cut where a continuation byte does not take all of its
// values, until every byte varies by itself.
void Split(CodePointRange range, std::vector<Utf8Sequence>* out) {
  for (int shift = 6; shift <= 18; shift += 6) {
    const uint32_t low = (uint32_t{1} << shift) - 1;
    if ((range.first & ~low) == (range.last & ~low)) break;
    if ((range.first & low) != 0) {
      Split({range.first, range.first | low}, out);
      Split({(range.first | low) + 1, range.last}, out);
      return;
    }
    if ((range.last & low) != low) {
      Split({range.first, (range.last & ~low) - 1}, out);
      Split({range.last & ~low, range.last}, out);
      return;
    }
  }
  std::array<uint8_t, 4> first{};
  std::array<uint8_t, 4> last{};
  const int length = Encode(range.first, &first);
  Encode(range.last, &last);
  Utf8Sequence& sequence = out->emplace_back();
  for (int i = 0; i < length; ++i) sequence.push_back({first[i], last[i]});
}

}  // namespace

CodePointSet MakeCodePointSet(std::vector<CodePointRange> ranges) {
  CodePointSet whole;
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto add = [&whole](uint32_t first, uint32_t last) {
    last = std::min(last, kMaxCodePoint);
    if (first > last) return;
    if (!whole.empty() && first <= whole.back().last + 1) {
      whole.back().last = std::max(whole.back().last, last);
    } else {
      whole.push_back({first, last});
    }
  };
  for (const CodePointRange& range : ranges) {
    if (range.first < kSurrogates.first) {
      add(range.first, std::min(range.last, kSurrogates.first - 1));
    }
    if (range.last > kSurrogates.last) add(std::max(range.first, kSurrogates.last + 1), range.last);
  }
  return whole;
}

CodePointSet Complement(const CodePointSet& set) {
  std::vector<CodePointRange> gaps;
  uint32_t next = 0;
  for (const CodePointRange& range : set) {
    if (range.first > next) gaps.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) gaps.push_back({next, kMaxCodePoint});
  return MakeCodePointSet(std::move(gaps));
}

CodePointSet Intersect(const CodePointSet& a, const CodePointSet& b) {
  CodePointSet both;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const uint32_t first = std::max(a[i].first, b[j].first);
    const uint32_t last = std::min(a[i].last, b[j].last);
    if (first <= last) both.push_back({first, last});
    a[i].last < b[j].last ? ++i : ++j;
  }
  return both;
}

bool Contains(const CodePointSet& set, uint32_t code_point) {
  return std::any_of(set.begin(), set.end(), [code_point](const CodePointRange& range) {
    return range.first <= code_point && code_point <= range.last;
  });
}

std::vector<Utf8Sequence> Utf8Sequences(const CodePointSet& set) {
  std::vector<Utf8Sequence> sequences;
  for (const CodePointRange& range : set) {
    uint32_t first = range.first;
    for (const uint32_t last_of_length : kLastOfLength) {
      if (first > last_of_length || first > range.last) continue;
      Split({first, std::min(range.last, last_of_length)}, &sequences);
      first = last_of_length + 1;
    }
  }
  return sequences;
}

}  // namespace rollcall
