// Regular expressions: PCRE2 with UTF-8 and Unicode properties, compiled to machine code, with a
// bound on the work of one match. The subject must be valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "services/base/status/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;
struct pcre2_real_jit_stack_8;

namespace rollcall {

struct RegexOptions {
  enum class Case { kSensitive, kInsensitive };
  Case letter_case = Case::kSensitive;
  // kMultiLine: ^ and $ match at line ends too.
  enum class Anchors { kWholeText, kMultiLine };
  Anchors anchors = Anchors::kWholeText;
  // kFull: the match must begin where the search starts and end at the end of the text.
  enum class Extent { kSearch, kFull };
  Extent extent = Extent::kSearch;
  size_t max_pattern_bytes = 4096;
  // Backtracking steps of one search.
  uint32_t match_limit = 1'000'000;
};

// Immutable and thread-safe; copies share the compiled pattern.
class Regex {
 public:
  // kInvalidArgument: the pattern is too long, not UTF-8, or malformed (with the offset).
  static StatusOr<Regex> Compile(std::string_view pattern, const RegexOptions& options);

  const std::string& pattern() const { return pattern_; }
  // Capture groups, without the whole match.
  uint32_t num_groups() const { return num_groups_; }

 private:
  friend class RegexMatcher;
  Regex() = default;
  std::string pattern_;
  std::shared_ptr<pcre2_real_code_8> code_;
  uint32_t num_groups_ = 0;
  uint32_t match_limit_ = 0;
};

// The working memory of searches with one regex; used by one thread at a time. The regex is
// borrowed.
class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  // Searches from `start` on (look-behind sees what is before it). True when found.
  // kResourceExhausted: the match limit or the stack was used up.
  StatusOr<bool> Find(std::string_view subject, size_t start);

  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };
  // After Find() returned true: group 0 is the whole match; nothing for a group that took no part.
  std::optional<Range> group(uint32_t index) const;

 private:
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
    void operator()(pcre2_real_match_context_8* context) const;
    void operator()(pcre2_real_jit_stack_8* stack) const;
  };
  const Regex& regex_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
};

}  // namespace rollcall
