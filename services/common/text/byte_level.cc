#include "services/common/text/byte_level.h"

#include <array>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> MakeAlphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet[byte] = IsPrintable(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return alphabet;
}

constexpr std::array<char32_t, 256> kAlphabet = MakeAlphabet();
// 68 bytes are not printable: the alphabet ends at U+0143.
constexpr size_t kAlphabetEnd = 0x144;

constexpr std::array<int16_t, kAlphabetEnd> MakeInverse() {
  std::array<int16_t, kAlphabetEnd> inverse{};
  for (int16_t& byte : inverse) byte = -1;
  for (int byte = 0; byte < 256; ++byte) inverse[kAlphabet[byte]] = static_cast<int16_t>(byte);
  return inverse;
}

constexpr std::array<int16_t, kAlphabetEnd> kInverse = MakeInverse();

}  // namespace

char32_t ByteToChar(uint8_t byte) { return kAlphabet[byte]; }

int CharToByte(char32_t character) { return character < kAlphabetEnd ? kInverse[character] : -1; }

std::string EncodeByteLevel(std::string_view bytes) {
  std::string token;
  token.reserve(2 * bytes.size());
  for (const char c : bytes) AppendUtf8(ByteToChar(static_cast<uint8_t>(c)), &token);
  return token;
}

std::optional<std::string> DecodeByteLevel(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  size_t offset = 0;
  while (offset < token.size()) {
    const Utf8Step step = DecodeUtf8(token, offset);
    const int byte = step.valid ? CharToByte(step.code_point) : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    offset += step.num_bytes;
  }
  return bytes;
}

std::string ByteToken(uint8_t byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  // The reference reads a sign, too.
  for (const char c : token[3] == '+' ? token.substr(4, 1) : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

}  // namespace rollcall
