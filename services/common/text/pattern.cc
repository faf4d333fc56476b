#include "services/common/text/pattern.h"

#include <utility>

#include "services/base/sync/mutex.h"
#include "services/common/text/onig_pattern.h"
#include "services/common/text/regex.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kMaxPatternBytes = 16 << 10;
// The file is the operator's and the text may be long.
constexpr uint32_t kMatchLimit = 100'000'000;

}  // namespace

// Keeps matchers for the next search; as many as threads have searched at once, at most kMaxKept.
class Pattern::Pool {
 public:
  explicit Pool(Regex regex) : regex_(std::move(regex)) {}

  std::unique_ptr<RegexMatcher> Take() ABSL_LOCKS_EXCLUDED(mu_) {
    {
      const MutexLock lock(mu_);
      if (!idle_.empty()) {
        std::unique_ptr<RegexMatcher> matcher = std::move(idle_.back());
        idle_.pop_back();
        return matcher;
      }
    }
    return std::make_unique<RegexMatcher>(regex_);
  }
  void Give(std::unique_ptr<RegexMatcher> matcher) ABSL_LOCKS_EXCLUDED(mu_) {
    const MutexLock lock(mu_);
    if (idle_.size() < kMaxKept) idle_.push_back(std::move(matcher));
  }

 private:
  static constexpr size_t kMaxKept = 64;
  const Regex regex_;
  Mutex mu_;
  std::vector<std::unique_ptr<RegexMatcher>> idle_ ABSL_GUARDED_BY(mu_);
};

StatusOr<Pattern> Pattern::Text(std::string_view text) {
  if (text.empty()) return InvalidArgument("an empty pattern");
  if (text.size() > kMaxPatternBytes) {
    return InvalidArgument("pattern has " + std::to_string(text.size()) + " bytes, the limit is " +
                           std::to_string(kMaxPatternBytes));
  }
  Pattern pattern;
  pattern.text_ = std::string(text);
  return pattern;
}

StatusOr<Pattern> Pattern::RegularExpression(std::string_view expression) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string translated, TranslateOniguruma(expression));
  // Ruby's syntax: ^ and $ match at every line.
  RegexOptions options;
  options.anchors = RegexOptions::Anchors::kMultiLine;
  options.max_pattern_bytes = size_t{1} << 20;  // classes are written out
  options.match_limit = kMatchLimit;
  if (expression.size() > kMaxPatternBytes) {
    return InvalidArgument("pattern has " + std::to_string(expression.size()) +
                           " bytes, the limit is " + std::to_string(kMaxPatternBytes));
  }
  Pattern pattern;
  ROLLCALL_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(translated, options));
  pattern.pool_ = std::make_shared<Pool>(std::move(regex));
  return pattern;
}

Status Pattern::FindAll(std::string_view text, std::vector<Span>* spans) const {
  size_t done = 0;  // everything before it is in a span
  const auto add = [&](size_t begin, size_t end) {
    if (done < begin) spans->push_back({done, begin, false});
    spans->push_back({begin, end, true});
    done = end;
  };
  if (pool_ == nullptr) {
    for (size_t at = text.find(text_); at != std::string_view::npos; at = text.find(text_, done)) {
      add(at, at + text_.size());
    }
  } else if (!text.empty()) {
    std::unique_ptr<RegexMatcher> matcher = pool_->Take();
    size_t start = 0;
    bool matched = false;
    while (start <= text.size()) {
      ROLLCALL_ASSIGN_OR_RETURN(const bool found, matcher->Find(text, start));
      if (!found) break;
      const RegexMatcher::Range match =
          matcher->group(0).value_or(RegexMatcher::Range{start, start});
      // An empty match right behind the last match does not count.
      if (match.begin == match.end && matched && match.end == done) {
        start += start < text.size() ? DecodeUtf8(text, start).num_bytes : 1;
        continue;
      }
      add(match.begin, match.end);
      start = match.end;
      matched = true;
    }
    pool_->Give(std::move(matcher));
  }
  if (done < text.size()) spans->push_back({done, text.size(), false});
  return OkStatus();
}

}  // namespace rollcall
