// Sets of Unicode code points, and their UTF-8 forms as sequences of byte ranges.
#pragma once

#include <cstdint>
#include <vector>

namespace rollcall {

struct CodePointRange {
  uint32_t first = 0;
  uint32_t last = 0;  // inclusive
  bool operator==(const CodePointRange&) const = default;
};

// Ranges ascend and do not touch; surrogates are never in it.
using CodePointSet = std::vector<CodePointRange>;

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

// Any ranges in any order; what is past the last code point or a surrogate falls out.
CodePointSet MakeCodePointSet(std::vector<CodePointRange> ranges);
CodePointSet Complement(const CodePointSet& set);
CodePointSet Intersect(const CodePointSet& a, const CodePointSet& b);
bool Contains(const CodePointSet& set, uint32_t code_point);

struct ByteRangePair {
  uint8_t first = 0;
  uint8_t last = 0;
};

// One to four ranges; every way to take one byte from each is one code point of the set.
using Utf8Sequence = std::vector<ByteRangePair>;

// Together the sequences give each code point of the set once.
std::vector<Utf8Sequence> Utf8Sequences(const CodePointSet& set);

}  // namespace rollcall
