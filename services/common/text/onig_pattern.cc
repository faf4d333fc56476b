#include "services/common/text/onig_pattern.h"

#include <cstdio>
#include <functional>
#include <optional>
#include <vector>

#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include "services/common/text/unicode.h"

namespace rollcall {
namespace {

constexpr char32_t kEnd = 0x110000;

// Those of the characters, which are in order, for which `holds`, as members of a class.
std::string Members(const std::vector<char32_t>& characters,
                    const std::function<bool(char32_t)>& holds) {
  std::string out;
  for (size_t i = 0; i < characters.size(); ++i) {
    if (!holds(characters[i])) continue;
    const char32_t first = characters[i];
    char32_t last = first;
    while (i + 1 < characters.size() && characters[i + 1] == last + 1 && holds(last + 1)) {
      ++last;
      ++i;
    }
    char range[40];
    std::snprintf(range, sizeof(range), first == last ? "\\x{%X}" : "\\x{%X}-\\x{%X}",
                  static_cast<unsigned>(first), static_cast<unsigned>(last));
    out += range;
  }
  return out;
}

std::vector<char32_t> AllCharacters() {
  std::vector<char32_t> all;
  for (char32_t c = 0; c < kEnd; ++c) {
    if (c < 0xD800 || c >= 0xE000) all.push_back(c);
  }
  return all;
}

// Characters about which the two may differ: those after Unicode 14, and six of Latin 1.
const std::vector<char32_t>& DoubtfulCharacters() {
  static const std::vector<char32_t> kDoubtful = [] {
    std::vector<char32_t> list = {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE};
    for (char32_t c = 0x370; c < kEnd; ++c) {
      if (IsNewerThan14(c) && CategoryMask(c) != U_GC_CN_MASK) list.push_back(c);
    }
    return list;
  }();
  return kDoubtful;
}

// A set of characters: what PCRE2 calls (nearly) the same, and the test for the rest.
struct CharacterSet {
  std::string base;
  std::function<bool(char32_t)> holds;
};

CharacterSet CategorySet(std::string_view name, uint32_t mask) {
  return {"\\p{" + std::string(name) + "}",
          [mask](char32_t c) { return (CategoryMask(c) & mask) != 0; }};
}

// \w there has six characters that are no word characters elsewhere, and no joiners.
CharacterSet WordSet() {
  return {"\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}", [](char32_t c) {
            if (c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE)) return true;
            return c != 0x200C && c != 0x200D && CharTable::Get().Has(c, kWord);
          }};
}

std::optional<CharacterSet> PropertySet(const std::string& name) {
  if (name.empty() || name.size() > 40) return std::nullopt;
  const int32_t mask = u_getPropertyValueEnum(UCHAR_GENERAL_CATEGORY_MASK, name.c_str());
  // PCRE2 knows the short names only.
  if (mask != UCHAR_INVALID_CODE && name.size() <= 2) {
    return CategorySet(name, static_cast<uint32_t>(mask));
  }
  if (mask != UCHAR_INVALID_CODE) {
    const char* short_name =
        u_getPropertyValueName(UCHAR_GENERAL_CATEGORY_MASK, mask, U_SHORT_PROPERTY_NAME);
    if (short_name != nullptr) return CategorySet(short_name, static_cast<uint32_t>(mask));
  }
  const int32_t script = u_getPropertyValueEnum(UCHAR_SCRIPT, name.c_str());
  if (script == UCHAR_INVALID_CODE) return std::nullopt;
  return CharacterSet{"\\p{sc:" + name + "}", [script](char32_t c) {
                        // Of the newest characters only Han is known, by its block.
                        if (script == USCRIPT_HAN && c >= 0x2EBF0 && c <= 0x2EE5D) return true;
                        UErrorCode error = U_ZERO_ERROR;
                        return uscript_getScript(static_cast<UChar32>(c), &error) == script;
                      }};
}

std::string Written(const CharacterSet& set, bool negated, bool in_class) {
  if (in_class && negated) {
    return Members(AllCharacters(), [&](char32_t c) { return !set.holds(c); });
  }
  std::string members = set.base + Members(DoubtfulCharacters(), set.holds);
  if (in_class) return members;
  return (negated ? "[^" : "[") + members + "]";
}

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
        case 'W':
          out += Written(WordSet(), escaped == 'W', in_class);
          break;
        case 'd':
        case 'D':
          out += Written(CategorySet("Nd", U_GC_ND_MASK), escaped == 'D', in_class);
          break;
        case 'p':
        case 'P': {
          const size_t close = pattern.find('}', i);
          if (i + 1 >= pattern.size() || pattern[i + 1] != '{' || close == std::string_view::npos) {
            return Refuse(pattern, i - 1, "a property without braces");
          }
          std::string name(pattern.substr(i + 2, close - i - 2));
          const bool inverted = name.starts_with('^');
          if (inverted) name.erase(0, 1);
          const std::optional<CharacterSet> set = PropertySet(name);
          if (!set) return Refuse(pattern, i - 1, "property '" + name + "'");
          out += Written(*set, (escaped == 'P') != inverted, in_class);
          i = close;
          break;
        }
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
