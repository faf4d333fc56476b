#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

}  // namespace

Utf8Step DecodeUtf8(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(offset);
  if (lead < 0x80) return {lead, 1, true};

  // Range of the second byte; later ones are 80..BF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  size_t num_bytes = 0;
  char32_t code_point = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    num_bytes = 2;
    code_point = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    num_bytes = 3;
    code_point = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    num_bytes = 4;
    code_point = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {kReplacement, 1, false};
  }
  for (size_t i = 1; i < num_bytes; ++i) {
    if (offset + i >= text.size()) return {kReplacement, i, false};
    const uint8_t next = byte(offset + i);
    if (next < low || next > high) return {kReplacement, i, false};
    low = 0x80;
    high = 0xBF;
    code_point = (code_point << 6) | (next & 0x3F);
  }
  return {code_point, num_bytes, true};
}

size_t FindInvalidUtf8(std::string_view text) {
  size_t offset = 0;
  while (offset < text.size()) {
    const Utf8Step step = DecodeUtf8(text, offset);
    if (!step.valid) return offset;
    offset += step.num_bytes;
  }
  return offset;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t offset = 0;
  while (offset < text.size()) {
    const Utf8Step step = DecodeUtf8(text, offset);
    if (step.valid) {
      out.append(text.substr(offset, step.num_bytes));
    } else {
      AppendUtf8(kReplacement, &out);
    }
    offset += step.num_bytes;
  }
  return out;
}

std::string_view TruncateUtf8(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  // A sequence has at most three bytes after its lead: look back that far for a lead that reaches
  // over the cut.
  for (size_t back = 1; back <= 3 && back <= max_bytes; ++back) {
    const Utf8Step step = DecodeUtf8(text, max_bytes - back);
    if (step.valid) return text.substr(0, step.num_bytes > back ? max_bytes - back : max_bytes);
  }
  return text.substr(0, max_bytes);
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::vector<char32_t> CodePoints(std::string_view text) {
  std::vector<char32_t> code_points;
  code_points.reserve(text.size());
  size_t offset = 0;
  while (offset < text.size()) {
    const Utf8Step step = DecodeUtf8(text, offset);
    code_points.push_back(step.code_point);
    offset += step.num_bytes;
  }
  return code_points;
}

}  // namespace rollcall
