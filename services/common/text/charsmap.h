// SentencePiece's compiled normalization rules: a double array of byte strings, and their
// replacements.
// Source: Kudo and Richardson 2018, arXiv 1808.06226; the format is darts-clone's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/aligned_text.h"

namespace rollcall {

class Charsmap {
 public:
  // `base64` is `precompiled_charsmap`. kInvalidArgument: it is not base64, or its sizes or
  // references do not fit.
  static StatusOr<Charsmap> Create(std::string_view base64);

  // Replaces each grapheme cluster of less than 6 bytes, else each character, whose beginning has a
  // rule, by the shortest such rule, as the reference does.
  void Apply(AlignedText* text) const;

 private:
  Charsmap() = default;
  // The replacement of the shortest key that `part` begins with.
  std::optional<std::string_view> Find(std::string_view part) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends in NUL
  std::array<bool, 128> has_ascii_rule_{};
};

}  // namespace rollcall
