#include "services/common/text/aligned_text.h"

#include "services/common/text/utf8.h"

namespace rollcall {

void AlignedText::Reset(std::string_view text, size_t base, Track track) {
  text_ = text;
  base_ = base;
  tracked_ = track == Track::kYes;
  if (!tracked_) return;
  std::vector<ByteRange>& ranges = ranges_[current_];
  ranges.clear();
  ranges.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t num_bytes = DecodeUtf8(text, i).num_bytes;
    const ByteRange range = {static_cast<uint32_t>(base + i),
                             static_cast<uint32_t>(base + i + num_bytes)};
    ranges.insert(ranges.end(), num_bytes, range);
    i += num_bytes;
  }
}

void AlignedText::Begin() {
  position_ = 0;
  spare().clear();
  if (tracked_) ranges_[1 - current_].clear();
}

void AlignedText::Copy(size_t num_bytes) {
  spare().append(text_.substr(position_, num_bytes));
  if (tracked_) {
    const auto from = ranges_[current_].begin() + static_cast<std::ptrdiff_t>(position_);
    ranges_[1 - current_].insert(ranges_[1 - current_].end(), from,
                                 from + static_cast<std::ptrdiff_t>(num_bytes));
  }
  position_ += num_bytes;
}

void AlignedText::InsertText(std::string_view text) {
  PutTextAt(text, position_ == 0 ? kStart : position_ - 1);
}

void AlignedText::InsertBefore(std::string_view text) { PutTextAt(text, position_); }

void AlignedText::PutAt(char32_t c, size_t source) {
  std::string& out = spare();
  const size_t before = out.size();
  AppendUtf8(c, &out);
  if (!tracked_) return;
  const auto base = static_cast<uint32_t>(base_);
  const ByteRange range =
      source >= text_.size() ? ByteRange{base, base} : ranges_[current_][source];
  ranges_[1 - current_].insert(ranges_[1 - current_].end(), out.size() - before, range);
}

void AlignedText::PutTextAt(std::string_view text, size_t source) {
  spare().append(text);
  if (!tracked_) return;
  const auto base = static_cast<uint32_t>(base_);
  const ByteRange range =
      source >= text_.size() ? ByteRange{base, base} : ranges_[current_][source];
  ranges_[1 - current_].insert(ranges_[1 - current_].end(), text.size(), range);
}

void AlignedText::AlignLastWithNext() {
  if (!tracked_ || spare().empty() || position_ >= text_.size()) return;
  const std::string& out = spare();
  size_t begin = out.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(out[begin]) & 0xC0) == 0x80) --begin;
  std::vector<ByteRange>& ranges = ranges_[1 - current_];
  for (size_t i = begin; i < ranges.size(); ++i) ranges[i] = ranges_[current_][position_];
}

void AlignedText::Commit() {
  current_ = 1 - current_;
  text_ = texts_[current_];
}

}  // namespace rollcall
