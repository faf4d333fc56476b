// Text on its way through normalizers and pre-tokenizers. Every byte of it knows which part of the
// original text it stands for, if that was asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/common/text/tokenizer.h"

namespace rollcall {

// Used again and again by one thread; Reset() begins a new text. A step that changes the text
// calls Begin(), puts the whole new text with the methods below it, and calls Commit().
class AlignedText {
 public:
  enum class Track { kNo, kYes };
  // `text` (UTF-8) begins at byte `base` of the original; it is viewed, not copied.
  void Reset(std::string_view text, size_t base, Track track);

  std::string_view text() const { return text_; }
  // The original range of a range of text(); needs Track::kYes and begin < end.
  ByteRange Original(size_t begin, size_t end) const {
    return {ranges_[current_][begin].begin, ranges_[current_][end - 1].end};
  }
  // Where the original of a byte begins; without Track::kYes only right for a text as it came.
  size_t OriginalBegin(size_t begin) const {
    return tracked_ ? ranges_[current_][begin].begin : base_ + begin;
  }

  void Begin();
  // The next num_bytes of text() unchanged.
  void Copy(size_t num_bytes);
  // Leaves out the next num_bytes.
  void Skip(size_t num_bytes) { position_ += num_bytes; }
  // Puts a character. Without Skip or Copy it stands for the character last passed, ...
  void Insert(char32_t c) { PutAt(c, position_ == 0 ? kStart : position_ - 1); }
  void InsertText(std::string_view text);
  // ... and this one for the next character, whose num_bytes are passed.
  void Replace(char32_t c, size_t num_bytes) {
    PutAt(c, position_);
    position_ += num_bytes;
  }
  // Puts characters that stand for the next one, which is not passed.
  void InsertBefore(std::string_view text);
  // The character put last stands for the next one instead.
  void AlignLastWithNext();
  size_t position() const { return position_; }   // in the old text
  size_t size() const { return spare().size(); }  // of the new text so far
  void Commit();

 private:
  static constexpr size_t kStart = static_cast<size_t>(-1);
  void PutAt(char32_t c, size_t source);
  void PutTextAt(std::string_view text, size_t source);
  std::string& spare() { return texts_[1 - current_]; }
  const std::string& spare() const { return texts_[1 - current_]; }

  std::string_view text_;
  size_t base_ = 0;
  bool tracked_ = false;
  int current_ = 0;
  size_t position_ = 0;
  std::string texts_[2];
  std::vector<ByteRange> ranges_[2];
};

}  // namespace rollcall
