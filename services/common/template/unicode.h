// Characters and strings as Python's str sees them: properties, case, and positions counted in code
// points. Text is UTF-8 and valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rollcall::jinja {

// str.isalpha() and its kin, for one character.
enum CharFlag : uint16_t {
  kAlpha = 1,
  kDecimal = 2,
  kDigit = 4,
  kNumeric = 8,
  kSpace = 16,
  kPrintable = 32,
  kUpperCase = 64,
  kLowerCase = 128,
  kTitleCase = 256,
  kCaseIgnorable = 512,
};
uint16_t CharFlags(char32_t c);
inline bool HasFlag(char32_t c, int flags) { return (CharFlags(c) & flags) != 0; }
inline bool IsWordChar(char32_t c) {
  return c == U'_' || HasFlag(c, kAlpha | kDecimal | kDigit | kNumeric);
}

// str.upper(), lower(), title(), capitalize(): full mappings, with the final sigma.
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string ToTitle(std::string_view text);
std::string ToCapitalized(std::string_view text);

int64_t CountChars(std::string_view text);
// Byte offset of the character at `index` in [0, CountChars]; text.size() at the end.
size_t ByteOffset(std::string_view text, int64_t index);
// The character that starts at `offset`, which is moved past it.
char32_t NextChar(std::string_view text, size_t* offset);

// str.strip() and its kin without an argument, and with a set of characters.
enum class Side { kBoth, kLeft, kRight };
std::string_view Strip(std::string_view text, Side side);
std::string_view StripChars(std::string_view text, std::string_view chars, Side side);

// str.splitlines().
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

}  // namespace rollcall::jinja
