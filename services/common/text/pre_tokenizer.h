// The pre-tokenizers of tokenizer.json: they cut text into the words that a model works on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/aligned_text.h"
#include "services/common/text/pattern.h"
#include "services/common/text/word_scanner.h"

namespace rollcall {

// GPT-2's split pattern, built into the ByteLevel pre-tokenizer.
extern const std::string_view kGpt2Pattern;

// A part of a text on its way: a word, or a token that was found before (id >= 0).
struct Piece {
  uint32_t begin = 0;
  uint32_t end = 0;
  int32_t id = -1;
};

// What becomes of the parts that a pattern matches: nothing, words of their own, the end of the
// word before, the beginning of the word behind, one word with neighbouring matches.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStep {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;                       // the pattern says what is no match
  WordScanner scanner = WordScanner::kNone;  // does the same, for a known pattern
};
struct CharacterSplitStep {
  // A character matches that has one of the traits (unicode.h), or is `delimiter`.
  uint16_t traits = 0;
  char32_t delimiter = 0;
  SplitBehavior behavior = SplitBehavior::kRemoved;
};
// Runs of \w, runs of what is neither \w nor space; spaces are removed.
struct WordRunsStep {};
struct FixedLengthStep {
  size_t length = 5;  // characters
};
// Puts a space in front of words that have none.
struct PrefixSpaceStep {};
// Spaces become `replacement`; with `split` each one begins a word.
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  char32_t replacement = 0x2581;
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
// Bytes are written in the byte-level alphabet.
struct ByteAlphabetWordsStep {};
using PreTokenizerStep = std::variant<SplitStep, CharacterSplitStep, WordRunsStep, FixedLengthStep,
                                      PrefixSpaceStep, MetaspaceStep, ByteAlphabetWordsStep>;

// Used by one thread at a time.
struct PreTokenizerScratch {
  std::vector<Piece> pieces;
  std::vector<Span> spans;
};

// Immutable and thread-safe.
class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps = {}) : steps_(std::move(steps)) {}

  // Cuts the pieces without an id; what is left of them is never empty. May change the text.
  // kResourceExhausted: the regex engine gave up, or the text grew past 1 GiB.
  Status Apply(AlignedText* text, std::vector<Piece>* pieces, PreTokenizerScratch* scratch) const;

  // Whether words depend on where in the original text they stand, and the text does not say so
  // by itself. kChanged: a normalizer may have changed it.
  enum class Origin { kAsItCame, kChanged };
  bool NeedsRanges(Origin origin) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace rollcall
