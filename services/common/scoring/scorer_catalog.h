// Every scorer that a job file can name, with its options: what job validation checks and what the
// reward server builds its scorers from. One table, so that both agree.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

enum class OptionKind {
  kText,
  kBool,     // true, false
  kInteger,  // within [min, max]
  kNumber,   // finite, within [min, max]
  kRegex,    // PCRE2 with Unicode, at most 4 KiB
  kChoice,   // one of `choices`
  kAddress,  // host:port
};

struct ScorerOption {
  std::string_view name = {};
  OptionKind kind = OptionKind::kText;
  std::string_view default_value = {};  // as in a job file; may be empty for texts and regexes
  std::string_view help = {};           // one line
  bool is_required = false;
  double min = 0;
  double max = 0;
  std::string_view choices = {};  // "first|last"
};

struct ScorerType {
  std::string_view name = {};
  std::string_view help = {};
  std::span<const ScorerOption> options = {};
  bool needs_answer = false;  // reads the ground truth of the row
  // Options under this prefix are handed to the user's own scorer without it; empty: none.
  std::string_view pass_through_prefix = {};
};

// In the order of `rollcall help job`.
std::span<const ScorerType> ScorerCatalog();

// Null when there is no such scorer.
const ScorerType* FindScorerType(std::string_view name);

// Option values of one scorer, checked, with defaults filled. Immutable. Asking for an option that
// the catalogue does not have, or as another kind, is a broken invariant.
class ScorerOptions {
 public:
  // kInvalidArgument: unknown type (the known ones are listed), unknown option, a value that is
  // malformed or out of range, a required option that is missing.
  static StatusOr<ScorerOptions> Parse(std::string_view type,
                                       const std::map<std::string, std::string>& options);

  const ScorerType& type() const { return *type_; }
  bool GetBool(std::string_view name) const;
  int64_t GetInteger(std::string_view name) const;
  double GetNumber(std::string_view name) const;
  // Text, regex, choice or address.
  const std::string& GetText(std::string_view name) const;
  // What goes to the user's own scorer.
  const std::map<std::string, std::string>& pass_through() const { return pass_through_; }
  // The same text for the same type and values, different for different ones.
  std::string Identity() const;

 private:
  explicit ScorerOptions(const ScorerType* type) : type_(type) {}
  const std::string& Get(std::string_view name, OptionKind kind) const;

  const ScorerType* type_;
  std::map<std::string, std::string, std::less<>> values_;
  std::map<std::string, std::string> pass_through_;
};

// Whether a scorer of a job file can run.
Status CheckScorer(std::string_view type, const std::map<std::string, std::string>& options);

}  // namespace rollcall
