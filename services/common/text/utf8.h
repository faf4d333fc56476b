// UTF-8 by the rules of Unicode 15, table 3-7: no overlong forms, no surrogates, nothing past
// U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rollcall {

// One step of decoding.
struct Utf8Step {
  char32_t code_point = 0;  // U+FFFD when not valid
  size_t num_bytes = 0;     // consumed; an ill-formed sequence is its maximal subpart, at least 1
  bool valid = false;
};

// Decodes at `offset` < text.size().
Utf8Step DecodeUtf8(std::string_view text, size_t offset);

// Offset of the first byte that is not part of valid UTF-8; text.size() when all of it is.
size_t FindInvalidUtf8(std::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

// The text with every ill-formed maximal subpart replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);

// The longest prefix of at most max_bytes that does not cut a valid sequence.
std::string_view TruncateUtf8(std::string_view text, size_t max_bytes);

// Unicode's White_Space property.
bool IsWhiteSpace(char32_t code_point);

// Code points of the text; U+FFFD for ill-formed parts.
std::vector<char32_t> CodePoints(std::string_view text);

}  // namespace rollcall
