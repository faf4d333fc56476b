// The normalizers of tokenizer.json, one after the other.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/aligned_text.h"
#include "services/common/text/charsmap.h"
#include "services/common/text/normalization_form.h"
#include "services/common/text/pattern.h"

namespace rollcall {

struct LowercaseStep {};
struct StripStep {
  bool left = true;
  bool right = true;
};
struct StripAccentsStep {};
struct PrependStep {
  std::string text;
};
struct ReplaceStep {
  Pattern pattern;
  std::string content;
};
struct BertStep {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};
struct NmtStep {};
struct ByteAlphabetStep {};
using NormalizerStep =
    std::variant<NormalizationForm, LowercaseStep, StripStep, StripAccentsStep, PrependStep,
                 ReplaceStep, BertStep, NmtStep, ByteAlphabetStep, std::shared_ptr<const Charsmap>>;

// Immutable and thread-safe.
class Normalizer {
 public:
  explicit Normalizer(std::vector<NormalizerStep> steps = {}) : steps_(std::move(steps)) {}
  bool empty() const { return steps_.empty(); }
  // kResourceExhausted: the regex engine gave up on the text, or the text grew past kMaxGrowth
  // times its length.
  Status Apply(AlignedText* text) const;
  static constexpr size_t kMaxGrowth = 64;

 private:
  std::vector<NormalizerStep> steps_;
};

// Writes every byte of the part [begin, end) of text in the byte-level alphabet; the rest before
// it must be passed. Begin() must have been called.
void PutByteAlphabet(size_t end, AlignedText* text);

}  // namespace rollcall
