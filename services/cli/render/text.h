// Text on a terminal: widths, units, colours. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rollcall {

// How much a terminal can show.
struct TerminalStyle {
  int width = 80;     // columns
  int height = 24;    // rows
  bool color = true;  // false with NO_COLOR or when the output is no terminal
};

// Columns that the text takes; escape sequences take none, East Asian wide characters two.
int DisplayWidth(std::string_view text);

// The text as one line that cannot control the terminal: line ends become "\n", other control
// characters "\xNN", bytes that are no UTF-8 "?".
std::string OneLine(std::string_view text);

// Cuts to at most `width` columns, the last of them "…" when something was cut. Escape sequences
// are kept. For text that went through OneLine or was made here.
std::string Truncate(std::string_view text, int width);

// Fills up with spaces; longer text is left as it is.
std::string PadRight(std::string_view text, int width);
std::string PadLeft(std::string_view text, int width);

// "0 B", "1.5 KiB", "640 MiB".
std::string HumanBytes(double bytes);
// "950", "12.3 k", "4.6 M".
std::string HumanCount(double count);
// "0.4 s", "28 s", "2m 05s", "3h 10m", "2d 04h".
std::string HumanSeconds(double seconds);
// Four significant digits, "-" for what is not finite.
std::string HumanNumber(double value);
// "61.2 %"
std::string HumanShare(double share);

enum class Ink { kPlain, kBold, kDim, kGreen, kRed, kYellow, kCyan };
// The text in that colour, unchanged without colours.
std::string Paint(const TerminalStyle& style, Ink ink, std::string_view text);

}  // namespace rollcall
