#include "services/common/text/charsmap.h"

#include <cstring>

#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// Longer clusters are taken character by character.
constexpr size_t kMaxClusterBytes = 5;
constexpr size_t kMaxCharsmapBytes = 16 << 20;

StatusOr<std::string> DecodeBase64(std::string_view text) {
  const auto wrong = [](size_t i) {
    return InvalidArgument("precompiled_charsmap is not base64 at byte " + std::to_string(i));
  };
  if (text.size() % 4 != 0) return wrong(text.size());
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    uint32_t bits = 0;
    size_t padding = 0;
    for (size_t k = 0; k < 4; ++k) {
      const char c = text[i + k];
      int value = -1;
      if (c >= 'A' && c <= 'Z') value = c - 'A';
      if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
      if (c >= '0' && c <= '9') value = c - '0' + 52;
      if (c == '+') value = 62;
      if (c == '/') value = 63;
      if (c == '=' && i + 4 == text.size() && k >= 2) {
        ++padding;
        value = 0;
      } else if (padding > 0) {
        value = -1;
      }
      if (value < 0) return wrong(i + k);
      bits = (bits << 6) | static_cast<uint32_t>(value);
    }
    for (size_t k = 0; k < 3 - padding; ++k) {
      bytes.push_back(static_cast<char>(bits >> (16 - 8 * k) & 0xFF));
    }
  }
  return bytes;
}

uint32_t ReadU32(const char* data) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = (value << 8) | static_cast<uint8_t>(data[i]);
  return value;
}

// Fields of a unit of the double array.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) == 1; }
uint32_t LeafValue(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

}  // namespace

StatusOr<Charsmap> Charsmap::Create(std::string_view base64) {
  if (base64.size() > kMaxCharsmapBytes) {
    return InvalidArgument("precompiled_charsmap has " + std::to_string(base64.size()) +
                           " bytes, the limit is " + std::to_string(kMaxCharsmapBytes));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const std::string bytes, DecodeBase64(base64));
  if (bytes.size() < 4) return InvalidArgument("precompiled_charsmap is too short");
  const size_t num_units = ReadU32(bytes.data()) / 4;
  if (num_units == 0 || num_units > (bytes.size() - 4) / 4) {
    return InvalidArgument("precompiled_charsmap has " + std::to_string(bytes.size()) +
                           " bytes, but says that its index has " +
                           std::to_string(ReadU32(bytes.data())));
  }
  Charsmap map;
  map.units_.reserve(num_units);
  for (size_t i = 0; i < num_units; ++i) map.units_.push_back(ReadU32(bytes.data() + 4 + 4 * i));
  map.replacements_ = bytes.substr(4 + 4 * num_units);
  if (FindInvalidUtf8(map.replacements_) != map.replacements_.size()) {
    return InvalidArgument("precompiled_charsmap: a replacement is not UTF-8");
  }
  for (size_t c = 0; c < map.has_ascii_rule_.size(); ++c) {
    const char text = static_cast<char>(c);
    map.has_ascii_rule_[c] = map.Find(std::string_view(&text, 1)).has_value();
  }
  return map;
}

std::optional<std::string_view> Charsmap::Find(std::string_view part) const {
  // What points outside the array is no rule.
  size_t node = Offset(units_[0]);
  for (const char c : part) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size()) return std::nullopt;
    const uint32_t unit = units_[node];
    if (Label(unit) != byte) return std::nullopt;
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (node >= units_.size()) return std::nullopt;
    const size_t begin = LeafValue(units_[node]);
    if (begin > replacements_.size()) return std::nullopt;
    const size_t end = replacements_.find('\0', begin);
    const std::string_view all = replacements_;
    const std::string_view found = all.substr(begin, end == std::string::npos ? end : end - begin);
    if (FindInvalidUtf8(found) != found.size()) return std::nullopt;
    return found;
  }
  return std::nullopt;
}

void Charsmap::Apply(AlignedText* text) const {
  const std::string_view input = text->text();
  bool changed = false;
  bool last_inserted = false;  // the last thing done was an Insert()
  // Replaces the part at `begin`; as many characters as there are on both sides stand for each
  // other, the rest of either side for the last one.
  const auto replace = [&](size_t begin, size_t num_bytes, std::string_view with) {
    if (!changed) text->Begin();
    changed = true;
    last_inserted = last_inserted && begin == text->position();
    text->Copy(begin - text->position());
    const size_t end = begin + num_bytes;
    // The reference counts what goes with the character before.
    if (with.empty() && last_inserted) text->AlignLastWithNext();
    last_inserted = false;
    const std::vector<char32_t> characters = CodePoints(with);
    const size_t old_count = CodePoints(input.substr(begin, num_bytes)).size();
    for (size_t k = 0; k < characters.size(); ++k) {
      if (k >= old_count) {
        text->Insert(characters[k]);
        last_inserted = true;
      } else if (k + 1 == characters.size()) {
        text->Replace(characters[k], end - text->position());
      } else {
        text->Replace(characters[k], DecodeUtf8(input, text->position()).num_bytes);
      }
    }
    text->Skip(end - text->position());
  };
  for (size_t i = 0; i < input.size();) {
    const auto lead = static_cast<uint8_t>(input[i]);
    if (lead < 0x80 && lead != '\r' && i + 1 < input.size() &&
        static_cast<uint8_t>(input[i + 1]) < 0x80) {
      if (has_ascii_rule_[lead]) {
        const auto found = Find(input.substr(i, 1));
        if (found) replace(i, 1, *found);
      }
      ++i;
      continue;
    }
    const size_t cluster = GraphemeLength(input, i);
    if (cluster <= kMaxClusterBytes) {
      const auto found = Find(input.substr(i, cluster));
      if (found) {
        replace(i, cluster, *found);
        i += cluster;
        continue;
      }
    }
    for (const size_t end = i + cluster; i < end;) {
      const size_t num_bytes = DecodeUtf8(input, i).num_bytes;
      const auto found = Find(input.substr(i, num_bytes));
      if (found) replace(i, num_bytes, *found);
      i += num_bytes;
    }
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

}  // namespace rollcall
