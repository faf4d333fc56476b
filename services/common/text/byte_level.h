// GPT-2's alphabet: each of the 256 bytes is written as one printable character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rollcall {

// The character of a byte: itself where it is printable (21..7E, A1..AC, AE..FF), else U+0100
// upward in order of the byte.
char32_t ByteToChar(uint8_t byte);
// The byte of a character of the alphabet, -1 for any other.
int CharToByte(char32_t character);

// The bytes written in the alphabet.
std::string EncodeByteLevel(std::string_view bytes);
// The bytes of a token written in the alphabet; nothing when a character is not of the alphabet.
std::optional<std::string> DecodeByteLevel(std::string_view token);

// SentencePiece's token of a byte, "<0x0A>".
std::string ByteToken(uint8_t byte);
// The byte of such a token (two hexadecimal digits of either case), -1 for any other.
int ByteOfToken(std::string_view token);

}  // namespace rollcall
