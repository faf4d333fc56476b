#include "services/common/text/unicode.h"

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr char32_t kEnd = 0x110000;
constexpr int kVersion8 = 80;  // tenths
constexpr int kVersion9 = 90;

struct TraitRange {
  char32_t first;
  char32_t last;
  uint16_t traits;
};

struct NewRange {
  char32_t first;
  char32_t last;
  UCharCategory category;  // of marks, punctuation and symbols one for all
};

// Characters of Unicode 15.1 and 16, which ICU 72 takes for unassigned.
constexpr NewRange kNewer[] = {
    {0x897, 0x897, U_NON_SPACING_MARK},         {0x1B4E, 0x1B4F, U_OTHER_PUNCTUATION},
    {0x1B7F, 0x1B7F, U_OTHER_PUNCTUATION},      {0x1C89, 0x1C89, U_UPPERCASE_LETTER},
    {0x1C8A, 0x1C8A, U_LOWERCASE_LETTER},       {0x2427, 0x2429, U_OTHER_SYMBOL},
    {0x2FFC, 0x2FFF, U_OTHER_SYMBOL},           {0x31E4, 0x31E5, U_OTHER_SYMBOL},
    {0x31EF, 0x31EF, U_OTHER_SYMBOL},           {0xA7CB, 0xA7CC, U_UPPERCASE_LETTER},
    {0xA7CD, 0xA7CD, U_LOWERCASE_LETTER},       {0xA7DA, 0xA7DA, U_UPPERCASE_LETTER},
    {0xA7DB, 0xA7DB, U_LOWERCASE_LETTER},       {0xA7DC, 0xA7DC, U_UPPERCASE_LETTER},
    {0x105C0, 0x105F3, U_OTHER_LETTER},         {0x10D40, 0x10D49, U_DECIMAL_DIGIT_NUMBER},
    {0x10D4A, 0x10D4D, U_OTHER_LETTER},         {0x10D4E, 0x10D4E, U_MODIFIER_LETTER},
    {0x10D4F, 0x10D4F, U_OTHER_LETTER},         {0x10D50, 0x10D65, U_UPPERCASE_LETTER},
    {0x10D69, 0x10D6D, U_NON_SPACING_MARK},     {0x10D6E, 0x10D6E, U_OTHER_PUNCTUATION},
    {0x10D6F, 0x10D6F, U_MODIFIER_LETTER},      {0x10D70, 0x10D85, U_LOWERCASE_LETTER},
    {0x10D8E, 0x10D8F, U_OTHER_SYMBOL},         {0x10EC2, 0x10EC4, U_OTHER_LETTER},
    {0x10EFC, 0x10EFC, U_NON_SPACING_MARK},     {0x11380, 0x11389, U_OTHER_LETTER},
    {0x1138B, 0x1138B, U_OTHER_LETTER},         {0x1138E, 0x1138E, U_OTHER_LETTER},
    {0x11390, 0x113B5, U_OTHER_LETTER},         {0x113B7, 0x113B7, U_OTHER_LETTER},
    {0x113B8, 0x113C0, U_NON_SPACING_MARK},     {0x113C2, 0x113C2, U_NON_SPACING_MARK},
    {0x113C5, 0x113C5, U_NON_SPACING_MARK},     {0x113C7, 0x113CA, U_NON_SPACING_MARK},
    {0x113CC, 0x113D0, U_NON_SPACING_MARK},     {0x113D1, 0x113D1, U_OTHER_LETTER},
    {0x113D2, 0x113D2, U_NON_SPACING_MARK},     {0x113D3, 0x113D3, U_OTHER_LETTER},
    {0x113D4, 0x113D5, U_OTHER_PUNCTUATION},    {0x113D7, 0x113D8, U_OTHER_PUNCTUATION},
    {0x113E1, 0x113E2, U_NON_SPACING_MARK},     {0x116D0, 0x116E3, U_DECIMAL_DIGIT_NUMBER},
    {0x11BC0, 0x11BE0, U_OTHER_LETTER},         {0x11BE1, 0x11BE1, U_OTHER_PUNCTUATION},
    {0x11BF0, 0x11BF9, U_DECIMAL_DIGIT_NUMBER}, {0x11F5A, 0x11F5A, U_NON_SPACING_MARK},
    {0x13460, 0x143FA, U_OTHER_LETTER},         {0x16100, 0x1611D, U_OTHER_LETTER},
    {0x1611E, 0x1612F, U_NON_SPACING_MARK},     {0x16130, 0x16139, U_DECIMAL_DIGIT_NUMBER},
    {0x16D40, 0x16D42, U_MODIFIER_LETTER},      {0x16D43, 0x16D6A, U_OTHER_LETTER},
    {0x16D6B, 0x16D6C, U_MODIFIER_LETTER},      {0x16D6D, 0x16D6F, U_OTHER_PUNCTUATION},
    {0x16D70, 0x16D79, U_DECIMAL_DIGIT_NUMBER}, {0x18CFF, 0x18CFF, U_OTHER_LETTER},
    {0x1CC00, 0x1CCEF, U_OTHER_SYMBOL},         {0x1CCF0, 0x1CCF9, U_DECIMAL_DIGIT_NUMBER},
    {0x1CD00, 0x1CEB3, U_OTHER_SYMBOL},         {0x1E5D0, 0x1E5ED, U_OTHER_LETTER},
    {0x1E5EE, 0x1E5EF, U_NON_SPACING_MARK},     {0x1E5F0, 0x1E5F0, U_OTHER_LETTER},
    {0x1E5F1, 0x1E5FA, U_DECIMAL_DIGIT_NUMBER}, {0x1E5FF, 0x1E5FF, U_OTHER_PUNCTUATION},
    {0x1F8B2, 0x1F8BB, U_OTHER_SYMBOL},         {0x1F8C0, 0x1F8C1, U_OTHER_SYMBOL},
    {0x1FA89, 0x1FA89, U_OTHER_SYMBOL},         {0x1FA8F, 0x1FA8F, U_OTHER_SYMBOL},
    {0x1FABE, 0x1FABE, U_OTHER_SYMBOL},         {0x1FAC6, 0x1FAC6, U_OTHER_SYMBOL},
    {0x1FADC, 0x1FADC, U_OTHER_SYMBOL},         {0x1FADF, 0x1FADF, U_OTHER_SYMBOL},
    {0x1FAE9, 0x1FAE9, U_OTHER_SYMBOL},         {0x1FBCB, 0x1FBEF, U_OTHER_SYMBOL},
    {0x2EBF0, 0x2EE5D, U_OTHER_LETTER},
};
// Numbers of Unicode 17.
constexpr TraitRange kNewest[] = {{0x11DE0, 0x11DE9, kNumeric}, {0x16FF4, 0x16FF6, kNumeric}};

struct CaseRange {
  char32_t first;
  char32_t last;
  int32_t to_lower;  // distance
};

constexpr CaseRange kNewerCase[] = {
    {0x1C89, 0x1C89, 1},    {0xA7CB, 0xA7CB, -42343}, {0xA7CC, 0xA7CC, 1}, {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},    {0xA7D4, 0xA7D4, 1},      {0xA7DA, 0xA7DA, 1}, {0xA7DC, 0xA7DC, -42561},
    {0x10D50, 0x10D65, 32}, {0x16EA0, 0x16EB8, 27},
};

// Their category changed after 8.0 or 9.0.
constexpr TraitRange kOlder[] = {
    {0x166D, 0x166D, kPunctuation},
    {0x111C9, 0x111C9, kPunctuation},
    {0x1734, 0x1734, kNonSpacing8},
    {0x1CF2, 0x1CF3, kMark9},
};
constexpr TraitRange kNotOlder[] = {
    {0x111C9, 0x111C9, kMark9 | kNonSpacing8},
    {0x1885, 0x1886, kNonSpacing8},
    {0xA9BD, 0xA9BD, kNonSpacing8},
};

int AgeTenths(char32_t c) {
  UVersionInfo version;
  u_charAge(static_cast<UChar32>(c), version);
  return version[0] * 10 + version[1];
}

const UNormalizer2* Instance(bool composed, bool compatible) {
  UErrorCode error = U_ZERO_ERROR;
  if (composed) {
    return compatible ? unorm2_getNFKCInstance(&error) : unorm2_getNFCInstance(&error);
  }
  return compatible ? unorm2_getNFKDInstance(&error) : unorm2_getNFDInstance(&error);
}

uint16_t StableForms(char32_t c) {
  const auto code_point = static_cast<UChar32>(c);
  constexpr uint16_t kAll = kNfcStable | kNfdStable | kNfkcStable | kNfkdStable;
  if (c < 0x80 || AgeTenths(c) > kVersion9) return kAll;
  if (u_getCombiningClass(code_point) != 0) return 0;
  const auto stable = [&](UProperty quick_check, uint16_t trait) {
    return u_getIntPropertyValue(code_point, quick_check) == UNORM_YES ? trait : uint16_t{0};
  };
  return static_cast<uint16_t>(
      stable(UCHAR_NFC_QUICK_CHECK, kNfcStable) | stable(UCHAR_NFD_QUICK_CHECK, kNfdStable) |
      stable(UCHAR_NFKC_QUICK_CHECK, kNfkcStable) | stable(UCHAR_NFKD_QUICK_CHECK, kNfkdStable));
}

bool IsAsciiPunctuation(char32_t c) {
  return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
         (c >= 0x7B && c <= 0x7E);
}

uint16_t TraitsOfCategory(uint32_t category) {
  const auto is = [&](uint32_t mask) { return (category & mask) != 0; };
  uint32_t traits = 0;
  if (is(U_GC_L_MASK)) traits |= kLetter;
  if (is(U_GC_N_MASK)) traits |= kNumber | kNumeric;
  if (is(U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) traits |= kWord;
  return static_cast<uint16_t>(traits);
}

uint16_t ComputeTraits(char32_t c) {
  const auto code_point = static_cast<UChar32>(c);
  const uint32_t category = U_GET_GC_MASK(code_point);
  const auto is = [&](uint32_t mask) { return (category & mask) != 0; };
  uint32_t traits = StableForms(c) | TraitsOfCategory(category);
  if (IsWhiteSpace(c)) traits |= kSpace;
  if (u_hasBinaryProperty(code_point, UCHAR_ALPHABETIC) != 0 ||
      u_hasBinaryProperty(code_point, UCHAR_JOIN_CONTROL) != 0) {
    traits |= kWord;
  }
  if (IsAsciiPunctuation(c)) traits |= kPunctuation;
  if (c == 0 || c == 0xFFFD) traits |= kUnclean;
  if (is(U_GC_P_MASK | U_GC_M_MASK | (U_GC_C_MASK & ~U_GC_CN_MASK))) {
    const int age = AgeTenths(c);
    if (age <= kVersion8) {
      if (is(U_GC_P_MASK)) traits |= kPunctuation;
      if (is(U_GC_MN_MASK)) traits |= kNonSpacing8;
      if (is(U_GC_C_MASK) && c != '\t' && c != '\n' && c != '\r') traits |= kUnclean;
    }
    if (age <= kVersion9 && is(U_GC_M_MASK)) traits |= kMark9;
  }
  return static_cast<uint16_t>(traits);
}

template <typename Change>
void ForEach(const TraitRange& range, std::vector<uint16_t>* all, Change change) {
  for (char32_t c = range.first; c <= range.last; ++c) (*all)[c] = change((*all)[c]);
}

struct Tables {
  std::vector<uint16_t> blocks;
  std::array<uint16_t, kEnd / 256> starts{};
};

Tables MakeTables() {
  constexpr uint16_t kAllStable = kNfcStable | kNfdStable | kNfkcStable | kNfkdStable;
  std::vector<uint16_t> all(kEnd, kAllStable);
  const auto add_range = [](const void* context, UChar32 begin, UChar32 end, UCharCategory type) {
    if (type == U_UNASSIGNED || type == U_SURROGATE) return static_cast<UBool>(1);
    auto* target = static_cast<std::vector<uint16_t>*>(const_cast<void*>(context));
    if (type == U_PRIVATE_USE_CHAR) {
      for (UChar32 c = begin; c < end; ++c) (*target)[c] |= kUnclean;
      return static_cast<UBool>(1);
    }
    for (UChar32 c = begin; c < end; ++c) (*target)[c] = ComputeTraits(static_cast<char32_t>(c));
    return static_cast<UBool>(1);
  };
  u_enumCharTypes(add_range, &all);
  // All of them are still unassigned for the older data; a later ICU agrees.
  for (const NewRange& range : kNewer) {
    const uint16_t traits = TraitsOfCategory(U_MASK(range.category)) | kAllStable;
    for (char32_t c = range.first; c <= range.last; ++c) all[c] = traits;
  }
  for (const TraitRange& range : kNewest) {
    ForEach(range, &all, [&](uint16_t t) { return static_cast<uint16_t>(t | range.traits); });
  }
  for (const TraitRange& range : kOlder) {
    ForEach(range, &all, [&](uint16_t t) { return static_cast<uint16_t>(t | range.traits); });
  }
  for (const TraitRange& range : kNotOlder) {
    ForEach(range, &all, [&](uint16_t t) { return static_cast<uint16_t>(t & ~range.traits); });
  }

  Tables tables;
  std::unordered_map<std::string, uint16_t> known;
  for (size_t block = 0; block < tables.starts.size(); ++block) {
    const uint16_t* begin = all.data() + block * 256;
    const std::string key(reinterpret_cast<const char*>(begin), 256 * sizeof(uint16_t));
    const auto next = static_cast<uint16_t>(tables.blocks.size() / 256);
    const auto [it, inserted] = known.emplace(key, next);
    if (inserted) tables.blocks.insert(tables.blocks.end(), begin, begin + 256);
    tables.starts[block] = it->second;
  }
  return tables;
}

int BreakClass(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_GRAPHEME_CLUSTER_BREAK);
}

bool IsPictographic(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_EXTENDED_PICTOGRAPHIC) != 0;
}

}  // namespace

CharTable::CharTable() {
  static const Tables tables = MakeTables();
  blocks_ = tables.blocks.data();
  starts_ = tables.starts.data();
}

const CharTable& CharTable::Get() {
  static const CharTable table;
  return table;
}

uint32_t CategoryMask(char32_t c) {
  const uint32_t mask = U_GET_GC_MASK(static_cast<UChar32>(c));
  if (mask != U_GC_CN_MASK) return mask;
  for (const NewRange& range : kNewer) {
    if (c >= range.first && c <= range.last) return U_MASK(range.category);
  }
  return mask;
}

bool IsNewerThan14(char32_t c) {
  const int age = AgeTenths(c);
  return age == 0 || age > 140;
}

size_t ToLower(char32_t c, char32_t out[2]) {
  if (c == 0x130) {
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
  }
  out[0] = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
  if (out[0] == c && c >= kNewerCase[0].first) {
    for (const CaseRange& range : kNewerCase) {
      if (c >= range.first && c <= range.last) {
        out[0] = static_cast<char32_t>(static_cast<int32_t>(c) + range.to_lower);
      }
    }
  }
  return 1;
}

int CombiningClass(char32_t c) {
  if (c < 0x300) return 0;
  const int combining_class = u_getCombiningClass(static_cast<UChar32>(c));
  return combining_class != 0 && AgeTenths(c) <= kVersion9 ? combining_class : 0;
}

size_t Decompose(char32_t c, Decomposition kind, char32_t out[kMaxDecomposition]) {
  if (c < 0xA0) return 0;
  UChar units[2 * kMaxDecomposition];
  UErrorCode error = U_ZERO_ERROR;
  const UNormalizer2* form = Instance(false, kind == Decomposition::kCompatible);
  const int32_t length =
      unorm2_getDecomposition(form, static_cast<UChar32>(c), units, std::size(units), &error);
  if (length <= 0 || U_FAILURE(error) || AgeTenths(c) > kVersion9) return 0;
  size_t count = 0;
  for (int32_t i = 0; i < length && count < kMaxDecomposition;) {
    UChar32 next = 0;
    U16_NEXT(units, i, length, next);
    out[count++] = static_cast<char32_t>(next);
  }
  return count;
}

char32_t Compose(char32_t first, char32_t second) {
  const UChar32 composed = unorm2_composePair(Instance(true, false), static_cast<UChar32>(first),
                                              static_cast<UChar32>(second));
  if (composed < 0 || AgeTenths(static_cast<char32_t>(composed)) > kVersion9) return 0;
  return static_cast<char32_t>(composed);
}

// Unicode Standard Annex 29, rules GB3 to GB13.
size_t GraphemeLength(std::string_view text, size_t offset) {
  Utf8Step step = DecodeUtf8(text, offset);
  size_t end = offset + step.num_bytes;
  if (end < text.size() && step.code_point < 0x80 && static_cast<uint8_t>(text[end]) < 0x80) {
    return step.code_point == '\r' && text[end] == '\n' ? 2 : 1;
  }
  int previous = BreakClass(step.code_point);
  bool pictographic = IsPictographic(step.code_point);  // and extenders since
  bool joined = false;                                  // pictographic, extenders, joiner
  size_t num_regional = previous == U_GCB_REGIONAL_INDICATOR ? 1 : 0;
  while (end < text.size()) {
    step = DecodeUtf8(text, end);
    const int next = BreakClass(step.code_point);
    const auto is_control = [](int b) {
      return b == U_GCB_CONTROL || b == U_GCB_CR || b == U_GCB_LF;
    };
    bool together = false;
    if (previous == U_GCB_CR && next == U_GCB_LF) {
      together = true;
    } else if (is_control(previous) || is_control(next)) {
      together = false;
    } else if (next == U_GCB_EXTEND || next == U_GCB_ZWJ || next == U_GCB_SPACING_MARK ||
               previous == U_GCB_PREPEND) {
      together = true;
    } else if (previous == U_GCB_L) {
      together = next == U_GCB_L || next == U_GCB_V || next == U_GCB_LV || next == U_GCB_LVT;
    } else if (previous == U_GCB_LV || previous == U_GCB_V) {
      together = next == U_GCB_V || next == U_GCB_T;
    } else if (previous == U_GCB_LVT || previous == U_GCB_T) {
      together = next == U_GCB_T;
    } else if (joined && IsPictographic(step.code_point)) {
      together = true;
    } else if (previous == U_GCB_REGIONAL_INDICATOR && next == U_GCB_REGIONAL_INDICATOR) {
      together = num_regional % 2 == 1;
    }
    if (!together) break;
    joined = pictographic && next == U_GCB_ZWJ;
    pictographic = IsPictographic(step.code_point) ||
                   (pictographic && (next == U_GCB_EXTEND || next == U_GCB_ZWJ));
    if (next == U_GCB_REGIONAL_INDICATOR) ++num_regional;
    previous = next;
    end += step.num_bytes;
  }
  return end - offset;
}

}  // namespace rollcall
