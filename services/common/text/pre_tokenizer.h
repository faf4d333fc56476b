// Cuts plain text into the words that byte-pair encoding works on.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/regex.h"

namespace rollcall {

// GPT-2's split pattern, built into the ByteLevel pre-tokenizer.
extern const std::string_view kGpt2Pattern;

struct PreTokenizerStep {
  // Every match of the regex and everything between two matches becomes a word. Null: a word that
  // does not begin with a space gets one.
  std::shared_ptr<const Regex> isolate;
};

// An isolating step from a pattern written for Oniguruma.
StatusOr<PreTokenizerStep> IsolateByPattern(std::string_view pattern);

// Immutable and thread-safe. No steps: the whole text is one word.
class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps = {}) : steps_(std::move(steps)) {}

  // The words in order; their concatenation is `text` but for the prefix spaces. `text` is UTF-8.
  // kResourceExhausted: the regex engine gave up on it.
  StatusOr<std::vector<std::string>> Split(std::string_view text) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace rollcall
