#include <utility>

#include "services/common/text/steps_json.h"
#include "services/common/text/unicode.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr std::string_view kSupported =
    "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, "
    "Sequence, Split, Whitespace, WhitespaceSplit";
constexpr int64_t kMaxFixedLength = int64_t{1} << 20;

StatusOr<SplitBehavior> ParseBehavior(const Json& value, const std::string& where) {
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const auto it = value.find("behavior");
  for (const auto& [name, behavior] : kBehaviors) {
    if (it != value.end() && it->is_string() && it->get_ref<const std::string&>() == name) {
      return behavior;
    }
  }
  return NotSupported(where + ".behavior", it == value.end() ? Json() : *it,
                      "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

Status ParseByteLevel(const Json& value, const std::string& where,
                      std::vector<PreTokenizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(value, where, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ROLLCALL_ASSIGN_OR_RETURN(const bool prefix_space,
                            GetBool(value, where, "add_prefix_space", true));
  ROLLCALL_ASSIGN_OR_RETURN(const bool use_regex, GetBool(value, where, "use_regex", true));
  if (prefix_space) steps->emplace_back(PrefixSpaceStep{});
  if (use_regex) {
    ROLLCALL_ASSIGN_OR_RETURN(Pattern pattern, Pattern::RegularExpression(kGpt2Pattern));
    steps->emplace_back(
        SplitStep{std::move(pattern), SplitBehavior::kIsolated, false, ScannerFor(kGpt2Pattern)});
  }
  steps->emplace_back(ByteAlphabetWordsStep{});
  return OkStatus();
}

Status ParseSplit(const Json& value, const std::string& where,
                  std::vector<PreTokenizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pattern", "behavior", "invert"}));
  ROLLCALL_ASSIGN_OR_RETURN(Pattern pattern, GetPattern(value, where));
  SplitStep step{std::move(pattern)};
  ROLLCALL_ASSIGN_OR_RETURN(step.behavior, ParseBehavior(value, where));
  ROLLCALL_ASSIGN_OR_RETURN(step.invert, GetBool(value, where, "invert", false));
  const auto& text = value["pattern"].front().get_ref<const std::string&>();
  // The known patterns match all of a text, so that what is no match is nothing.
  if (value["pattern"].contains("Regex") && step.behavior == SplitBehavior::kIsolated) {
    step.scanner = ScannerFor(text);
  }
  steps->emplace_back(std::move(step));
  return OkStatus();
}

Status ParseMetaspace(const Json& value, const std::string& where,
                      std::vector<PreTokenizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(value, where,
                {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"}));
  MetaspaceStep step;
  ROLLCALL_ASSIGN_OR_RETURN(step.replacement, GetCharacter(value, where, "replacement"));
  ROLLCALL_ASSIGN_OR_RETURN(step.split, GetBool(value, where, "split", true));
  ROLLCALL_ASSIGN_OR_RETURN(const auto scheme, GetString(value, where, "prepend_scheme"));
  if (scheme && *scheme != "always" && *scheme != "first" && *scheme != "never") {
    return NotSupported(where + ".prepend_scheme", *scheme, "always, first, never");
  }
  if (scheme == "first") step.prepend = MetaspaceStep::Prepend::kFirst;
  if (scheme == "never") step.prepend = MetaspaceStep::Prepend::kNever;
  // Of old files; it must not contradict the scheme.
  ROLLCALL_ASSIGN_OR_RETURN(const bool prefix_space,
                            GetBool(value, where, "add_prefix_space", true));
  if (!prefix_space) {
    if (scheme && *scheme != "never") {
      return WrongField(where, "add_prefix_space is false, but prepend_scheme is " + *scheme);
    }
    step.prepend = MetaspaceStep::Prepend::kNever;
  }
  steps->emplace_back(step);
  return OkStatus();
}

Status ParseSmall(const Json& value, const std::string& where, const std::string& type,
                  std::vector<PreTokenizerStep>* steps) {
  if (type == "Whitespace" || type == "WhitespaceSplit" || type == "BertPreTokenizer") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type"}));
    if (type == "Whitespace") {
      steps->emplace_back(WordRunsStep{});
      return OkStatus();
    }
    steps->emplace_back(CharacterSplitStep{kSpace, 0, SplitBehavior::kRemoved});
    if (type == "BertPreTokenizer") {
      steps->emplace_back(CharacterSplitStep{kPunctuation, 0, SplitBehavior::kIsolated});
    }
    return OkStatus();
  }
  if (type == "Punctuation") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "behavior"}));
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (value.contains("behavior")) {
      ROLLCALL_ASSIGN_OR_RETURN(behavior, ParseBehavior(value, where));
    }
    steps->emplace_back(CharacterSplitStep{kPunctuation, 0, behavior});
    return OkStatus();
  }
  if (type == "Digits") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "individual_digits"}));
    ROLLCALL_ASSIGN_OR_RETURN(const bool individual,
                              GetBool(value, where, "individual_digits", false));
    steps->emplace_back(CharacterSplitStep{
        kNumeric, 0, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
    return OkStatus();
  }
  if (type == "CharDelimiterSplit") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "delimiter"}));
    ROLLCALL_ASSIGN_OR_RETURN(const char32_t delimiter, GetCharacter(value, where, "delimiter"));
    steps->emplace_back(CharacterSplitStep{0, delimiter, SplitBehavior::kRemoved});
    return OkStatus();
  }
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "length"}));
  FixedLengthStep step;
  if (value.contains("length")) {
    ROLLCALL_ASSIGN_OR_RETURN(const int64_t length,
                              GetCount(value, where, "length", kMaxFixedLength));
    if (length == 0) return WrongField(where, "length is 0");
    step.length = static_cast<size_t>(length);
  }
  steps->emplace_back(step);
  return OkStatus();
}

}  // namespace

Status ParsePreTokenizer(const Json& value, const std::string& where,
                         std::vector<PreTokenizerStep>* steps) {
  if (value.is_null()) return OkStatus();
  if (steps->size() >= kMaxSteps) {
    return WrongField(where, "more than " + std::to_string(kMaxSteps) + " steps");
  }
  const std::string type = TypeOf(value);
  if (type == "Sequence") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pretokenizers"}));
    ROLLCALL_ASSIGN_OR_RETURN(const Json* list, GetList(value, where, "pretokenizers"));
    for (size_t i = 0; i < list->size(); ++i) {
      ROLLCALL_RETURN_IF_ERROR(ParsePreTokenizer(
          (*list)[i], where + ".pretokenizers[" + std::to_string(i) + "]", steps));
    }
    return OkStatus();
  }
  if (type == "ByteLevel") return ParseByteLevel(value, where, steps);
  if (type == "Split") return ParseSplit(value, where, steps);
  if (type == "Metaspace") return ParseMetaspace(value, where, steps);
  for (const std::string_view known :
       {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits",
        "CharDelimiterSplit", "FixedLength"}) {
    if (type == known) return ParseSmall(value, where, type, steps);
  }
  return NotSupported(where, value, kSupported);
}

}  // namespace rollcall
