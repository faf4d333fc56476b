// What Split and Replace search for: a text or a regular expression.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// A part of a text, and whether the pattern matched it.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool is_match = false;
};

// Immutable and thread-safe.
class Pattern {
 public:
  // kInvalidArgument: the text is empty.
  static StatusOr<Pattern> Text(std::string_view text);
  // Written for Oniguruma; kInvalidArgument as TranslateOniguruma() and Regex::Compile().
  static StatusOr<Pattern> RegularExpression(std::string_view pattern);

  // Appends the spans that make up `text` (UTF-8), in order. kResourceExhausted: the regex engine
  // gave up.
  Status FindAll(std::string_view text, std::vector<Span>* spans) const;

  // The text searched for; empty for a regular expression.
  const std::string& text() const { return text_; }

 private:
  Pattern() = default;
  class Pool;
  std::string text_;
  std::shared_ptr<Pool> pool_;  // of the working memory of the regex; null for a text
};

}  // namespace rollcall
