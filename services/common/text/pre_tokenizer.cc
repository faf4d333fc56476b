#include "services/common/text/pre_tokenizer.h"

#include <utility>

#include "services/common/text/onig_pattern.h"
#include "services/common/text/utf8.h"

namespace rollcall {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr size_t kMaxPatternBytes = 16 << 10;

Status Isolate(const Regex& regex, std::string_view text, std::vector<std::string>* words) {
  RegexMatcher matcher(regex);
  size_t done = 0;   // everything before it is in a word
  size_t start = 0;  // of the next search
  while (start < text.size()) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool found, matcher.Find(text, start));
    if (!found) break;
    const RegexMatcher::Range match = matcher.group(0).value_or(RegexMatcher::Range{start, start});
    if (match.begin >= text.size()) break;
    if (done < match.begin) words->emplace_back(text.substr(done, match.begin - done));
    if (match.begin < match.end) {
      words->emplace_back(text.substr(match.begin, match.end - match.begin));
    }
    done = match.end;
    start = match.end;
    if (match.begin == match.end) start += DecodeUtf8(text, start).num_bytes;
  }
  if (done < text.size()) words->emplace_back(text.substr(done));
  return OkStatus();
}

}  // namespace

StatusOr<PreTokenizerStep> IsolateByPattern(std::string_view pattern) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string translated, TranslateOniguruma(pattern));
  // Ruby's syntax: ^ and $ match at every line.
  RegexOptions options;
  options.anchors = RegexOptions::Anchors::kMultiLine;
  options.max_pattern_bytes = kMaxPatternBytes;
  // The file is the operator's and the text may be long.
  options.match_limit = 100'000'000;
  ROLLCALL_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(translated, options));
  return PreTokenizerStep{std::make_shared<const Regex>(std::move(regex))};
}

StatusOr<std::vector<std::string>> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string> words;
  if (text.empty()) return words;
  words.emplace_back(text);
  for (const PreTokenizerStep& step : steps_) {
    std::vector<std::string> next;
    for (std::string& word : words) {
      if (step.isolate != nullptr) {
        ROLLCALL_RETURN_IF_ERROR(Isolate(*step.isolate, word, &next));
      } else {
        if (word.front() != ' ') word.insert(word.begin(), ' ');
        next.push_back(std::move(word));
      }
    }
    words = std::move(next);
  }
  return words;
}

}  // namespace rollcall
