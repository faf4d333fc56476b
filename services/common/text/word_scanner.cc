#include "services/common/text/word_scanner.h"

#include "services/common/text/pre_tokenizer.h"
#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr uint16_t kClasses = kLetter | kNumber | kSpace;

// Walks over the text one character at a time.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text), table_(&CharTable::Get()) { Read(); }
  bool done() const { return position_ == text_.size(); }
  size_t position() const { return position_; }
  char32_t c() const { return step_.code_point; }
  // Traits of the character here, 0 at the end.
  uint16_t traits() const { return traits_; }
  bool Is(uint16_t traits) const { return (traits_ & traits) != 0; }
  // Neither letter, number nor space.
  bool IsOther() const { return !done() && !Is(kClasses); }
  bool IsNewline() const { return !done() && (c() == '\r' || c() == '\n'); }
  void Next() {
    position_ += step_.num_bytes;
    Read();
  }
  void SkipAll(uint16_t traits) {
    while (Is(traits)) Next();
  }

 private:
  void Read() {
    if (done()) {
      traits_ = 0;
      return;
    }
    const auto lead = static_cast<uint8_t>(text_[position_]);
    step_ = lead < 0x80 ? Utf8Step{lead, 1, true} : DecodeUtf8(text_, position_);
    traits_ = (*table_)[step_.code_point];
  }
  std::string_view text_;
  const CharTable* table_;
  size_t position_ = 0;
  Utf8Step step_;
  uint16_t traits_ = 0;
};

// Length of 's 't 're 've 'm 'll 'd at the front, 0 when none is there.
size_t Contraction(std::string_view text, bool any_case) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto lower = [&](char c) {
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = lower(text[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  // The long s, whose upper case is S.
  if (any_case && text.substr(1).starts_with("\u017F")) return 3;
  if (text.size() < 3) return 0;
  const char second = lower(text[2]);
  const bool is_long = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                       (first == 'l' && second == 'l');
  return is_long ? 3 : 0;
}

// \s+(?!\S)|\s+ with the cursor on a space: all of them, but the last one where a word follows.
size_t Spaces(Cursor* cursor) {
  size_t last = 0;  // where the last one begins
  while (cursor->Is(kSpace)) {
    last = cursor->position();
    cursor->Next();
  }
  return cursor->done() || last == 0 ? cursor->position() : last;
}

size_t ScanGpt2(std::string_view text) {
  const size_t contraction = Contraction(text, false);
  if (contraction > 0) return contraction;
  Cursor cursor(text);
  if (cursor.Is(kSpace)) {
    if (cursor.c() != ' ') return Spaces(&cursor);
    Cursor next = cursor;
    next.Next();
    if (next.done() || next.Is(kSpace)) return Spaces(&cursor);
    cursor = next;
  }
  if (cursor.Is(kLetter)) {
    cursor.SkipAll(kLetter);
  } else if (cursor.Is(kNumber)) {
    cursor.SkipAll(kNumber);
  } else {
    while (cursor.IsOther()) cursor.Next();
  }
  return cursor.position();
}

// \s*[\r\n]+|\s+(?!\S)|\s+ with the cursor on a space.
size_t SpacesAndLines(Cursor* cursor) {
  size_t last = 0;
  size_t after_newline = 0;
  while (cursor->Is(kSpace)) {
    last = cursor->position();
    const bool newline = cursor->IsNewline();
    cursor->Next();
    if (newline) after_newline = cursor->position();
  }
  if (after_newline > 0) return after_newline;
  return cursor->done() || last == 0 ? cursor->position() : last;
}

size_t ScanLlama3(std::string_view text, size_t max_digits) {
  const size_t contraction = Contraction(text, true);
  if (contraction > 0) return contraction;
  Cursor cursor(text);
  if (cursor.Is(kLetter)) {
    cursor.SkipAll(kLetter);
    return cursor.position();
  }
  if (cursor.Is(kNumber)) {
    for (size_t i = 0; i < max_digits && cursor.Is(kNumber); ++i) cursor.Next();
    return cursor.position();
  }
  Cursor next = cursor;
  next.Next();
  if (!cursor.IsNewline() && next.Is(kLetter)) {
    next.SkipAll(kLetter);
    return next.position();
  }
  if (cursor.Is(kSpace)) {
    if (cursor.c() != ' ' || !next.IsOther()) return SpacesAndLines(&cursor);
    cursor = next;
  }
  while (cursor.IsOther()) cursor.Next();
  while (cursor.IsNewline()) cursor.Next();
  return cursor.position();
}

}  // namespace

WordScanner ScannerFor(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return WordScanner::kGpt2;
  if (pattern == kLlama3Pattern) return WordScanner::kLlama3;
  if (pattern == kQwen2Pattern) return WordScanner::kQwen2;
  return WordScanner::kNone;
}

size_t ScanWord(WordScanner scanner, std::string_view text) {
  switch (scanner) {
    case WordScanner::kNone:
      break;
    case WordScanner::kGpt2:
      return ScanGpt2(text);
    case WordScanner::kLlama3:
      return ScanLlama3(text, 3);
    case WordScanner::kQwen2:
      return ScanLlama3(text, 1);
  }
  return text.size();
}

}  // namespace rollcall
