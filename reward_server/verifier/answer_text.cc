#include "reward_server/verifier/answer_text.h"

#include <utility>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// Bounds the work of taking the last match.
constexpr int kMaxMatches = 10'000;

}  // namespace

std::string_view StripWhiteSpace(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = DecodeUtf8(text, 0);
    if (!IsWhiteSpace(step.code_point)) break;
    text.remove_prefix(step.num_bytes);
  }
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
    if (!IsWhiteSpace(DecodeUtf8(text, last).code_point)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string LowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

StatusOr<std::optional<std::string_view>> TakeMatch(const Regex& regex, Take take,
                                                    std::string_view text) {
  RegexMatcher matcher(regex);
  std::optional<std::string_view> taken;
  size_t start = 0;
  for (int num_matches = 0; start <= text.size(); ++num_matches) {
    if (num_matches == kMaxMatches) {
      return ResourceExhausted("pattern '" + regex.pattern() + "' matches more than " +
                               std::to_string(kMaxMatches) + " times");
    }
    ROLLCALL_ASSIGN_OR_RETURN(const bool found, matcher.Find(text, start));
    if (!found) break;
    const RegexMatcher::Range whole = matcher.group(0).value_or(RegexMatcher::Range{start, start});
    // A group that took no part stands for nothing.
    const RegexMatcher::Range range =
        regex.num_groups() == 0
            ? whole
            : matcher.group(1).value_or(RegexMatcher::Range{whole.end, whole.end});
    taken = text.substr(range.begin, range.end - range.begin);
    if (take == Take::kFirst) break;
    start = whole.end;
    if (whole.begin == whole.end) {
      start += start < text.size() ? DecodeUtf8(text, start).num_bytes : 1;
    }
  }
  return taken;
}

StatusOr<AnswerExtractor> AnswerExtractor::Create(const ScorerOptions& options) {
  AnswerExtractor extractor;
  extractor.take_ = options.GetText("take") == "first" ? Take::kFirst : Take::kLast;
  const std::string& pattern = options.GetText("extract");
  if (!pattern.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(extractor.regex_, Regex::Compile(pattern, {}));
  }
  return extractor;
}

StatusOr<std::optional<std::string_view>> AnswerExtractor::Extract(std::string_view text) const {
  if (!regex_.has_value()) return std::optional<std::string_view>(text);
  return TakeMatch(*regex_, take_, text);
}

}  // namespace rollcall
