#include "services/cli/render/text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace rollcall {
namespace {

// Length of the escape sequence "ESC [ ... letter" at the beginning, 0 when there is none.
size_t EscapeLength(std::string_view text) {
  if (text.size() < 2 || text[0] != '\x1b' || text[1] != '[') return 0;
  for (size_t i = 2; i < text.size(); ++i) {
    if (text[i] >= '@' && text[i] <= '~') return i + 1;
  }
  return text.size();
}

struct CodePoint {
  char32_t value = 0;
  size_t length = 0;  // in bytes; 0: not UTF-8
};

CodePoint Decode(std::string_view text) {
  const auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || text.size() < length) return {};
  char32_t value = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3F);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return {};
  return {value, length};
}

int ColumnsOf(char32_t c) {
  // Combining marks, joiners and variation selectors.
  if ((c >= 0x300 && c <= 0x36F) || (c >= 0x200B && c <= 0x200F) || (c >= 0xFE00 && c <= 0xFE0F)) {
    return 0;
  }
  const bool is_wide = (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF) ||
                       (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) ||
                       (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
                       (c >= 0xFFE0 && c <= 0xFFE6) || (c >= 0x1F300 && c <= 0x1FAFF) ||
                       (c >= 0x20000 && c <= 0x3FFFD);
  return is_wide ? 2 : 1;
}

// Control characters of both blocks, and what reorders or breaks lines.
bool IsUnsafe(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

std::string WithUnit(double value, double base, const char* const* units, int num_units) {
  int unit = 0;
  // 1023.95 would be shown as "1024.0".
  while (std::abs(value) >= base - 0.05 && unit + 1 < num_units) {
    value /= base;
    ++unit;
  }
  const bool is_whole = unit == 0 && value == std::floor(value);
  const std::string number = is_whole                ? fmt::format("{:.0f}", value)
                             : std::abs(value) < 100 ? fmt::format("{:.1f}", value)
                                                     : fmt::format("{:.0f}", value);
  return units[unit][0] == '\0' ? number : number + " " + units[unit];
}

}  // namespace

int DisplayWidth(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    if (const size_t escape = EscapeLength(text); escape > 0) {
      text.remove_prefix(escape);
      continue;
    }
    const CodePoint c = Decode(text);
    columns += c.length == 0 ? 1 : ColumnsOf(c.value);
    text.remove_prefix(std::max<size_t>(1, c.length));
  }
  return columns;
}

std::string OneLine(std::string_view text) {
  std::string line;
  line.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    if (c.length == 0) {
      line += '?';
      text.remove_prefix(1);
      continue;
    }
    if (c.value == '\n') {
      line += "\\n";
    } else if (c.value == '\t') {
      line += "\\t";
    } else if (IsUnsafe(c.value)) {
      const auto code = static_cast<uint32_t>(c.value);
      line += code < 0x100 ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{:04x}", code);
    } else {
      line += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
  return line;
}

std::string Truncate(std::string_view text, int width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  if (width <= 0) return "";
  std::string cut;
  int columns = 0;
  bool is_cut = false;
  while (!text.empty()) {
    if (const size_t escape = EscapeLength(text); escape > 0) {
      // Colours go on being closed after the cut.
      cut += text.substr(0, escape);
      text.remove_prefix(escape);
      continue;
    }
    const CodePoint c = Decode(text);
    const size_t length = std::max<size_t>(1, c.length);
    const int wide = c.length == 0 ? 1 : ColumnsOf(c.value);
    if (!is_cut && columns + wide > width - 1) {
      is_cut = true;
      cut += "…";
    }
    if (!is_cut) {
      cut += text.substr(0, length);
      columns += wide;
    }
    text.remove_prefix(length);
  }
  return cut;
}

std::string PadRight(std::string_view text, int width) {
  return std::string(text) + std::string(std::max(0, width - DisplayWidth(text)), ' ');
}

std::string PadLeft(std::string_view text, int width) {
  return std::string(std::max(0, width - DisplayWidth(text)), ' ') + std::string(text);
}

std::string HumanBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  return WithUnit(bytes, 1024, kUnits, std::size(kUnits));
}

std::string HumanCount(double count) {
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  return WithUnit(count, 1000, kUnits, std::size(kUnits));
}

std::string HumanSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d {:02}h", whole / 86400, whole % 86400 / 3600);
}

std::string HumanNumber(double value) {
  return std::isfinite(value) ? fmt::format("{:.4g}", value) : "-";
}

std::string HumanShare(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", share * 100) : "-";
}

std::string Paint(const TerminalStyle& style, Ink ink, std::string_view text) {
  if (!style.color || ink == Ink::kPlain) return std::string(text);
  const char* code = ink == Ink::kBold     ? "1"
                     : ink == Ink::kDim    ? "2"
                     : ink == Ink::kGreen  ? "32"
                     : ink == Ink::kRed    ? "31"
                     : ink == Ink::kYellow ? "33"
                                           : "36";
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

}  // namespace rollcall
