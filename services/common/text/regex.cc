#include "services/common/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kStackStartBytes = 32 << 10;
constexpr size_t kStackMaxBytes = 4 << 20;
constexpr uint32_t kHeapLimitKib = 64 << 10;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) {
    return "error " + std::to_string(code);
  }
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

StatusOr<Regex> Regex::Compile(std::string_view pattern, const RegexOptions& options) {
  if (pattern.size() > options.max_pattern_bytes) {
    return InvalidArgument("pattern has " + std::to_string(pattern.size()) +
                           " bytes, the limit is " + std::to_string(options.max_pattern_bytes));
  }
  if (FindInvalidUtf8(pattern) != pattern.size()) {
    return InvalidArgument("pattern is not UTF-8");
  }
  // No \C (it would split characters) and no (*VERB) that lifts the limits from inside.
  uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  if (options.letter_case == RegexOptions::Case::kInsensitive) flags |= PCRE2_CASELESS;
  if (options.anchors == RegexOptions::Anchors::kMultiLine) flags |= PCRE2_MULTILINE;
  if (options.extent == RegexOptions::Extent::kFull) flags |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   flags, &error, &offset, nullptr);
  if (code == nullptr) {
    return InvalidArgument("pattern '" + std::string(pattern) + "' is malformed at byte " +
                           std::to_string(offset) + ": " + ErrorText(error));
  }
  Regex regex;
  regex.code_ = std::shared_ptr<pcre2_code>(code, [](pcre2_code* c) { pcre2_code_free(c); });
  regex.pattern_ = std::string(pattern);
  regex.match_limit_ = options.match_limit;
  // Where there is no JIT the interpreter gives the same answers.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &regex.num_groups_);
  return regex;
}

void RegexMatcher::Free::operator()(pcre2_real_match_data_8* data) const {
  pcre2_match_data_free(data);
}
void RegexMatcher::Free::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}
void RegexMatcher::Free::operator()(pcre2_real_jit_stack_8* stack) const {
  pcre2_jit_stack_free(stack);
}

RegexMatcher::RegexMatcher(const Regex& regex)
    : regex_(regex),
      stack_(pcre2_jit_stack_create(kStackStartBytes, kStackMaxBytes, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      data_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr)) {
  ROLLCALL_CHECK(context_ != nullptr && data_ != nullptr, "out of memory for a regex match");
  pcre2_set_match_limit(context_.get(), regex.match_limit_);
  pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

RegexMatcher::~RegexMatcher() = default;

StatusOr<bool> RegexMatcher::Find(std::string_view subject, size_t start) {
  const int result =
      pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(),
                  start, PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
  if (result > 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  return ResourceExhausted("pattern '" + regex_.pattern_ + "' on a text of " +
                           std::to_string(subject.size()) + " bytes: " + ErrorText(result));
}

std::optional<RegexMatcher::Range> RegexMatcher::group(uint32_t index) const {
  if (index > regex_.num_groups_) return std::nullopt;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
  const PCRE2_SIZE begin = offsets[2 * index];
  const PCRE2_SIZE end = offsets[2 * index + 1];
  // \K in a look-around can put the start after the end.
  if (begin == PCRE2_UNSET || begin > end) return std::nullopt;
  return Range{begin, end};
}

}  // namespace rollcall
