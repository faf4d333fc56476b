#include "services/common/template/unicode.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

struct PropertyRun {
  char32_t first, last;
  uint16_t flags;
};
struct CaseRun {
  char32_t first, last;
  int32_t stride, delta;
};
struct SpecialCase {
  char32_t code_point;
  std::u32string_view mapped;
};

#include "services/common/template/unicode_tables.inc"

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kSmallSigma = 0x3C3;
constexpr char32_t kFinalSigma = 0x3C2;

struct CaseTable {
  std::span<const CaseRun> runs;
  std::span<const SpecialCase> special;
};
constexpr CaseTable kUpper = {kUpperRuns, kUpperSpecial};
constexpr CaseTable kLower = {kLowerRuns, kLowerSpecial};
constexpr CaseTable kTitle = {kTitleRuns, kTitleSpecial};

void AppendMapped(const CaseTable& table, char32_t c, std::string* out) {
  const auto special = std::lower_bound(
      table.special.begin(), table.special.end(), c,
      [](const SpecialCase& entry, char32_t value) { return entry.code_point < value; });
  if (special != table.special.end() && special->code_point == c) {
    for (const char32_t mapped : special->mapped) AppendUtf8(mapped, out);
    return;
  }
  // Runs with a stride of two may interleave, so the one that holds c lies at or shortly before.
  auto run = std::upper_bound(table.runs.begin(), table.runs.end(), c,
                              [](char32_t value, const CaseRun& r) { return value < r.first; });
  for (int back = 0; back < 4 && run != table.runs.begin(); ++back) {
    --run;
    if (c <= run->last && (c - run->first) % static_cast<uint32_t>(run->stride) == 0) {
      AppendUtf8(static_cast<char32_t>(static_cast<int32_t>(c) + run->delta), out);
      return;
    }
  }
  AppendUtf8(c, out);
}

bool IsCased(char32_t c) { return HasFlag(c, kUpperCase | kLowerCase | kTitleCase); }

// Whether the sigma at `index` ends a word: a cased letter before it, none after it, looking past
// what case ignores.
bool IsFinalSigma(const std::vector<char32_t>& chars, size_t index) {
  size_t before = index;
  while (before > 0 && HasFlag(chars[before - 1], kCaseIgnorable)) --before;
  if (before == 0 || !IsCased(chars[before - 1])) return false;
  size_t after = index + 1;
  while (after < chars.size() && HasFlag(chars[after], kCaseIgnorable)) ++after;
  return after == chars.size() || !IsCased(chars[after]);
}

void AppendLower(const std::vector<char32_t>& chars, size_t index, std::string* out) {
  if (chars[index] == kCapitalSigma) {
    AppendUtf8(IsFinalSigma(chars, index) ? kFinalSigma : kSmallSigma, out);
  } else {
    AppendMapped(kLower, chars[index], out);
  }
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

bool IsLineBreak(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

template <typename IsStripped>
std::string_view StripIf(std::string_view text, Side side, IsStripped is_stripped) {
  size_t begin = 0;
  if (side != Side::kRight) {
    while (begin < text.size()) {
      size_t next = begin;
      if (!is_stripped(NextChar(text, &next))) break;
      begin = next;
    }
  }
  size_t end = text.size();
  if (side != Side::kLeft) {
    while (end > begin) {
      size_t last = end - 1;
      while (last > begin && (text[last] & 0xC0) == 0x80) --last;
      size_t offset = last;
      if (!is_stripped(NextChar(text, &offset))) break;
      end = last;
    }
  }
  return text.substr(begin, end - begin);
}

}  // namespace

uint16_t CharFlags(char32_t c) {
  const auto* run =
      std::upper_bound(std::begin(kPropertyRuns), std::end(kPropertyRuns), c,
                       [](char32_t value, const PropertyRun& r) { return value < r.first; });
  if (run == std::begin(kPropertyRuns)) return 0;
  --run;
  return c <= run->last ? run->flags : uint16_t{0};
}

std::string ToUpper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if ((text[i] & 0x80) == 0) {
      const char c = text[i++];
      out.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
    } else {
      AppendMapped(kUpper, NextChar(text, &i), &out);
    }
  }
  return out;
}

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  if (IsAscii(text)) {
    for (const char c : text) {
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    }
    return out;
  }
  const std::vector<char32_t> chars = CodePoints(text);
  for (size_t i = 0; i < chars.size(); ++i) AppendLower(chars, i, &out);
  return out;
}

std::string ToTitle(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const std::vector<char32_t> chars = CodePoints(text);
  bool after_cased = false;
  for (size_t i = 0; i < chars.size(); ++i) {
    if (after_cased) {
      AppendLower(chars, i, &out);
    } else {
      AppendMapped(kTitle, chars[i], &out);
    }
    after_cased = IsCased(chars[i]);
  }
  return out;
}

std::string ToCapitalized(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const std::vector<char32_t> chars = CodePoints(text);
  for (size_t i = 0; i < chars.size(); ++i) {
    if (i == 0) {
      AppendMapped(kTitle, chars[i], &out);
    } else {
      AppendLower(chars, i, &out);
    }
  }
  return out;
}

int64_t CountChars(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

size_t ByteOffset(std::string_view text, int64_t index) {
  size_t offset = 0;
  while (index > 0 && offset < text.size()) {
    ++offset;
    while (offset < text.size() && (text[offset] & 0xC0) == 0x80) ++offset;
    --index;
  }
  return offset;
}

char32_t NextChar(std::string_view text, size_t* offset) {
  const Utf8Step step = DecodeUtf8(text, *offset);
  *offset += step.num_bytes;
  return step.code_point;
}

std::string_view Strip(std::string_view text, Side side) {
  return StripIf(text, side, [](char32_t c) { return HasFlag(c, kSpace); });
}

std::string_view StripChars(std::string_view text, std::string_view chars, Side side) {
  const std::vector<char32_t> set = CodePoints(chars);
  return StripIf(text, side,
                 [&](char32_t c) { return std::find(set.begin(), set.end(), c) != set.end(); });
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t end = i;
    const char32_t c = NextChar(text, &i);
    if (!IsLineBreak(c)) continue;
    if (c == U'\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(begin, (keep_ends ? i : end) - begin));
    begin = i;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

}  // namespace rollcall::jinja
