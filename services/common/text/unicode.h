// Unicode as the `tokenizers` library knows it. It asks several libraries, each with data of its
// own age: the regex engine and Rust's own tables (Unicode 16 and 17), punctuation, control and
// non-spacing marks of the BERT steps (8.0), normalization forms and marks (9.0). ICU, which may be
// older or newer than any of them, is asked here, cut down to those versions or added to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rollcall {

enum CharTrait : uint16_t {
  kLetter = 1 << 0,        // general category L
  kNumber = 1 << 1,        // N
  kNumeric = 1 << 2,       // N of the Digits pre-tokenizer, one version later
  kSpace = 1 << 6,         // White_Space
  kWord = 1 << 7,          // \w: letters, marks, digits, connectors, joiners
  kPunctuation = 1 << 8,   // ASCII punctuation, and P of Unicode 8.0
  kUnclean = 1 << 9,       // BERT's cleaning removes it: NUL, U+FFFD, C of Unicode 8.0
  kMark9 = 1 << 10,        // M of Unicode 9.0
  kNonSpacing8 = 1 << 11,  // Mn of Unicode 8.0
  // A normalization form leaves it alone, whatever stands beside it.
  kNfcStable = 1 << 12,
  kNfdStable = 1 << 13,
  kNfkcStable = 1 << 14,
  kNfkdStable = 1 << 15,
};

// Two-stage table of the traits of all code points; immutable.
class CharTable {
 public:
  static const CharTable& Get();
  uint16_t operator[](char32_t c) const {
    return c > 0x10FFFF ? uint16_t{0} : blocks_[(size_t{starts_[c >> 8]} << 8) | (c & 0xFF)];
  }
  bool Has(char32_t c, uint16_t traits) const { return ((*this)[c] & traits) != 0; }

 private:
  CharTable();
  const uint16_t* blocks_ = nullptr;
  const uint16_t* starts_ = nullptr;
};

// The general category as a bit of ICU's U_GC_*_MASK, with the characters of Unicode 16.
uint32_t CategoryMask(char32_t c);
// Whether the character, if it is one, is of a version after Unicode 14.
bool IsNewerThan14(char32_t c);

// The lower case of one character, without context: one or two code points into `out`.
size_t ToLower(char32_t c, char32_t out[2]);

// Normalization data of Unicode 9.0.
int CombiningClass(char32_t c);
enum class Decomposition { kCanonical, kCompatible };
// The full decomposition of a character into `out`, 0 when it has none; at most 18.
constexpr size_t kMaxDecomposition = 18;
size_t Decompose(char32_t c, Decomposition kind, char32_t out[kMaxDecomposition]);
// The character that the pair makes, 0 when it makes none.
char32_t Compose(char32_t first, char32_t second);

// Length in bytes of the extended grapheme cluster that begins at `offset` < text.size().
size_t GraphemeLength(std::string_view text, size_t offset);

}  // namespace rollcall
