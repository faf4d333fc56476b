#include "services/common/text/onig_pattern.h"

namespace rollcall {
namespace {

constexpr std::string_view kWordMembers = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

Status Refuse(std::string_view pattern, size_t offset, std::string_view what) {
  return InvalidArgument("pattern '" + std::string(pattern) + "': " + std::string(what) +
                         " at byte " + std::to_string(offset) + " is not supported");
}

bool IsPunctuation(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u >= 0x21 && u <= 0x2F) || (u >= 0x3A && u <= 0x40) || (u >= 0x5B && u <= 0x60) ||
         (u >= 0x7B && u <= 0x7E) || u == ' ';
}

}  // namespace

StatusOr<std::string> TranslateOniguruma(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (i + 1 == pattern.size()) return Refuse(pattern, i, "a lone backslash");
      const char escaped = pattern[++i];
      switch (escaped) {
        case 's':
          out += "\\p{White_Space}";
          break;
        case 'S':
          out += "\\P{White_Space}";
          break;
        case 'w':
          (out += in_class ? "" : "[") += kWordMembers;
          if (!in_class) out += ']';
          break;
        case 'W':
          if (in_class) return Refuse(pattern, i - 1, "\\W in a class");
          ((out += "[^") += kWordMembers) += ']';
          break;
        case 'd':
        case 'D':
        case 'p':
        case 'P':
        case 'r':
        case 'n':
        case 't':
        case 'f':
        case 'x':
          (out += '\\') += escaped;
          break;
        default:
          if (!IsPunctuation(escaped)) {
            return Refuse(pattern, i - 1, std::string("escape \\") + escaped);
          }
          (out += '\\') += escaped;
      }
      continue;
    }
    if (in_class) {
      if (c == '[') return Refuse(pattern, i, "a class inside a class");
      if (c == '&' && i + 1 < pattern.size() && pattern[i + 1] == '&') {
        return Refuse(pattern, i, "&& in a class");
      }
      if (c == ']') in_class = false;
    } else if (c == '[') {
      in_class = true;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        return Refuse(pattern, i + 1, "an empty class");
      }
      continue;
    } else if (c == '(' && i + 1 < pattern.size() && pattern[i + 1] == '*') {
      return Refuse(pattern, i, "(*");
    }
    out += c;
  }
  if (in_class) return Refuse(pattern, pattern.size(), "an open class");
  return out;
}

}  // namespace rollcall
