#include "services/common/scoring/scorer_catalog.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "services/base/net/address.h"
#include "services/common/text/regex.h"

namespace rollcall {
namespace {

constexpr double kMany = 1 << 30;
constexpr size_t kMaxValueBytes = 4096;
constexpr size_t kMaxPassThrough = 64;

constexpr ScorerOption kStrip = {
    .name = "strip",
    .kind = OptionKind::kBool,
    .default_value = "true",
    .help = "Remove white space around the completion and the answer."};
constexpr ScorerOption kCaseSensitive = {.name = "case_sensitive",
                                         .kind = OptionKind::kBool,
                                         .default_value = "true",
                                         .help = "False: ASCII letters compare without case."};
constexpr ScorerOption kExtract = {
    .name = "extract",
    .kind = OptionKind::kRegex,
    .help =
        "Judge group 1 (or the whole match) of this regex in the completion; no match is wrong."};
constexpr ScorerOption kTake = {.name = "take",
                                .kind = OptionKind::kChoice,
                                .default_value = "last",
                                .help = "Which match or number of the completion counts.",
                                .choices = "first|last"};

constexpr ScorerOption kExactMatchOptions[] = {kStrip, kCaseSensitive, kExtract, kTake};

constexpr ScorerOption kNumericOptions[] = {
    {.name = "tolerance",
     .kind = OptionKind::kNumber,
     .default_value = "0",
     .help = "Largest absolute difference that is right.",
     .max = 1e300},
    {.name = "relative_tolerance",
     .kind = OptionKind::kNumber,
     .default_value = "0",
     .help = "Largest difference relative to the answer; added to tolerance.",
     .max = 1},
    kExtract,
    kTake,
};

constexpr ScorerOption kRegexOptions[] = {
    {.name = "pattern",
     .kind = OptionKind::kRegex,
     .help = "The completion is right when this regex matches.",
     .is_required = true},
    {.name = "match",
     .kind = OptionKind::kChoice,
     .default_value = "search",
     .help = "search: anywhere in the completion; full: all of it.",
     .choices = "search|full"},
    kCaseSensitive,
};

constexpr ScorerOption kCharAccuracyOptions[] = {
    {.name = "unit",
     .kind = OptionKind::kChoice,
     .default_value = "code_point",
     .help = "What is compared: Unicode code points or bytes.",
     .choices = "code_point|byte"},
    {.name = "length_penalty",
     .kind = OptionKind::kBool,
     .default_value = "true",
     .help = "Divide by the longer of completion and answer; false: by the answer."},
    kStrip,
    kCaseSensitive,
};

constexpr ScorerOption kLengthOptions[] = {
    {.name = "unit",
     .kind = OptionKind::kChoice,
     .default_value = "token",
     .help = "What is counted.",
     .choices = "token|code_point|byte"},
    {.name = "min",
     .kind = OptionKind::kInteger,
     .default_value = "0",
     .help = "Shortest length worth 1.",
     .max = kMany},
    {.name = "max",
     .kind = OptionKind::kInteger,
     .help = "Longest length worth 1.",
     .is_required = true,
     .max = kMany},
    {.name = "falloff",
     .kind = OptionKind::kInteger,
     .default_value = "0",
     .help = "Units outside [min, max] over which the score falls linearly to 0.",
     .max = kMany},
};

constexpr ScorerOption kJsonFormatOptions[] = {
    {.name = "type",
     .kind = OptionKind::kChoice,
     .default_value = "object",
     .help = "What the JSON text must be.",
     .choices = "object|array|any"},
    {.name = "required_keys", .help = "Keys that the object must have, with commas between them."},
    {.name = "allow_fence",
     .kind = OptionKind::kBool,
     .default_value = "false",
     .help = "Accept the JSON text inside a ``` fence."},
};

constexpr ScorerOption kRemoteOptions[] = {
    {.name = "address",
     .kind = OptionKind::kAddress,
     .help = "host:port of a rollcall.v1.ScorerService.",
     .is_required = true},
    {.name = "tls",
     .kind = OptionKind::kBool,
     .default_value = "false",
     .help = "Call over TLS with the reward server's certificates; needed beyond loopback."},
    {.name = "concurrency",
     .kind = OptionKind::kInteger,
     .default_value = "16",
     .help = "Most calls to the address at one time.",
     .min = 1,
     .max = 1024},
};

constexpr ScorerType kCatalog[] = {
    {.name = "exact_match",
     .help = "1 when the completion is the answer, else 0.",
     .options = kExactMatchOptions,
     .needs_answer = true},
    {.name = "numeric",
     .help = "1 when a number in the completion equals the answer within a tolerance, else 0.",
     .options = kNumericOptions,
     .needs_answer = true},
    {.name = "regex", .help = "1 when a pattern matches, else 0.", .options = kRegexOptions},
    {.name = "char_accuracy",
     .help = "Share of positions at which completion and answer agree.",
     .options = kCharAccuracyOptions,
     .needs_answer = true},
    {.name = "length",
     .help = "1 within a range of lengths, less outside.",
     .options = kLengthOptions},
    {.name = "json_format",
     .help = "1 when the completion is well-formed JSON, else 0.",
     .options = kJsonFormatOptions},
    {.name = "remote",
     .help = "The value that a scorer of your own returns over gRPC.",
     .options = kRemoteOptions,
     .pass_through_prefix = "option."},
};

const ScorerOption* FindOption(const ScorerType& type, std::string_view name) {
  for (const ScorerOption& option : type.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

std::string Join(const std::vector<std::string_view>& names) {
  std::string text;
  for (const std::string_view name : names) {
    if (!text.empty()) text += ", ";
    text += name;
  }
  return text;
}

std::string OptionNames(const ScorerType& type) {
  std::vector<std::string_view> names;
  for (const ScorerOption& option : type.options) names.push_back(option.name);
  std::string text = Join(names);
  if (!type.pass_through_prefix.empty()) {
    text += ", " + std::string(type.pass_through_prefix) + "<key>";
  }
  return text;
}

bool IsChoice(std::string_view choices, std::string_view value) {
  while (true) {
    const size_t bar = choices.find('|');
    if (choices.substr(0, bar) == value) return true;
    if (bar == std::string_view::npos) return false;
    choices.remove_prefix(bar + 1);
  }
}

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string Shown(double value) {
  std::string text = std::to_string(value);
  if (std::abs(value) > 1e15) return value > 0 ? "1e300" : "-1e300";
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

Status CheckValue(const ScorerOption& option, const std::string& value) {
  const auto wrong = [&](const std::string& expected) {
    return InvalidArgument("'" + value + "' is not " + expected);
  };
  const std::string range = " within [" + Shown(option.min) + ", " + Shown(option.max) + "]";
  switch (option.kind) {
    case OptionKind::kText:
      return OkStatus();
    case OptionKind::kBool:
      return value == "true" || value == "false" ? OkStatus() : wrong("true or false");
    case OptionKind::kInteger: {
      const std::optional<int64_t> number = ParseNumber<int64_t>(value);
      const bool is_good = number.has_value() && static_cast<double>(*number) >= option.min &&
                           static_cast<double>(*number) <= option.max;
      return is_good ? OkStatus() : wrong("an integer" + range);
    }
    case OptionKind::kNumber: {
      const std::optional<double> number = ParseNumber<double>(value);
      const bool is_good = number.has_value() && std::isfinite(*number) && *number >= option.min &&
                           *number <= option.max;
      return is_good ? OkStatus() : wrong("a number" + range);
    }
    case OptionKind::kRegex:
      return value.empty() ? OkStatus() : Regex::Compile(value, {}).status();
    case OptionKind::kChoice:
      return IsChoice(option.choices, value) ? OkStatus()
                                             : wrong("one of " + std::string(option.choices));
    case OptionKind::kAddress:
      return ParseHostPort(value).status();
  }
  return Internal("option of no kind");
}

}  // namespace

std::span<const ScorerType> ScorerCatalog() { return kCatalog; }

const ScorerType* FindScorerType(std::string_view name) {
  for (const ScorerType& type : kCatalog) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

StatusOr<ScorerOptions> ScorerOptions::Parse(std::string_view type_name,
                                             const std::map<std::string, std::string>& options) {
  const ScorerType* type = FindScorerType(type_name);
  if (type == nullptr) {
    std::vector<std::string_view> names;
    for (const ScorerType& known : kCatalog) names.push_back(known.name);
    return InvalidArgument("there is no scorer '" + std::string(type_name) +
                           "'; known: " + Join(names));
  }
  ScorerOptions parsed(type);
  for (const auto& [key, value] : options) {
    const std::string where = std::string(type_name) + ": option '" + key + "'";
    if (value.size() > kMaxValueBytes) {
      return InvalidArgument(where + " has " + std::to_string(value.size()) +
                             " bytes, the limit is " + std::to_string(kMaxValueBytes));
    }
    const std::string_view prefix = type->pass_through_prefix;
    if (!prefix.empty() && key.starts_with(prefix) && key.size() > prefix.size()) {
      parsed.pass_through_.emplace(key.substr(prefix.size()), value);
      if (parsed.pass_through_.size() > kMaxPassThrough) {
        return InvalidArgument(std::string(type_name) + ": more than " +
                               std::to_string(kMaxPassThrough) + " options under '" +
                               std::string(prefix) + "'");
      }
      continue;
    }
    const ScorerOption* option = FindOption(*type, key);
    if (option == nullptr) {
      return InvalidArgument(where + " is unknown; known: " + OptionNames(*type));
    }
    const Status checked = CheckValue(*option, value);
    if (!checked.ok()) return Annotate(checked, where);
    parsed.values_[key] = value;
  }
  for (const ScorerOption& option : type->options) {
    const auto [it, is_absent] =
        parsed.values_.emplace(std::string(option.name), std::string(option.default_value));
    if (option.is_required && it->second.empty()) {
      return InvalidArgument(std::string(type_name) + ": option '" + std::string(option.name) +
                             "' is missing: " + std::string(option.help));
    }
  }
  if (type->options.data() == std::data(kLengthOptions) &&
      parsed.GetInteger("min") > parsed.GetInteger("max")) {
    return InvalidArgument("length: option 'min' (" + parsed.values_["min"] +
                           ") is above option 'max' (" + parsed.values_["max"] + ")");
  }
  return parsed;
}

const std::string& ScorerOptions::Get(std::string_view name, OptionKind kind) const {
  const ScorerOption* option = FindOption(*type_, name);
  ROLLCALL_CHECK(option != nullptr && option->kind == kind, "no such scorer option");
  return values_.find(name)->second;
}

bool ScorerOptions::GetBool(std::string_view name) const {
  return Get(name, OptionKind::kBool) == "true";
}

int64_t ScorerOptions::GetInteger(std::string_view name) const {
  return *ParseNumber<int64_t>(Get(name, OptionKind::kInteger));
}

double ScorerOptions::GetNumber(std::string_view name) const {
  return *ParseNumber<double>(Get(name, OptionKind::kNumber));
}

const std::string& ScorerOptions::GetText(std::string_view name) const {
  const ScorerOption* option = FindOption(*type_, name);
  ROLLCALL_CHECK(option != nullptr, "no such scorer option");
  return Get(name, option->kind);
}

std::string ScorerOptions::Identity() const {
  std::string identity;
  // Lengths before the texts keep "a" + "bc" apart from "ab" + "c".
  const auto add = [&](std::string_view text) {
    ((identity += std::to_string(text.size())) += ':') += text;
  };
  add(type_->name);
  for (const auto& [key, value] : values_) {
    add(key);
    add(value);
  }
  add("|");
  for (const auto& [key, value] : pass_through_) {
    add(key);
    add(value);
  }
  return identity;
}

Status CheckScorer(std::string_view type, const std::map<std::string, std::string>& options) {
  return ScorerOptions::Parse(type, options).status();
}

}  // namespace rollcall
