#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "services/common/config/job_file.h"
#include "services/common/config/method_parts.h"
#include "services/common/config/preset.h"
#include "services/common/config/spec_fields.h"

namespace rollcall {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using google::protobuf::Reflection;

// Plain where every YAML reader takes it for the same text, double-quoted elsewhere.
std::string YamlText(const std::string& text) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '/' || c == '.' || c == '-';
  };
  const bool starts_plain = !text.empty() && ((text[0] >= 'a' && text[0] <= 'z') ||
                                              (text[0] >= 'A' && text[0] <= 'Z') || text[0] == '/');
  static constexpr std::string_view kNotText[] = {"true", "false", "null", "yes", "no",
                                                  "on",   "off",   "y",    "n"};
  std::string lower = text;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (starts_plain && std::all_of(text.begin(), text.end(), is_word) &&
      std::find(std::begin(kNotText), std::end(kNotText), lower) == std::end(kNotText)) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

class YamlWriter {
 public:
  std::string Write(const v1::JobSpec& spec) {
    WriteSection(spec, 0);
    return std::move(out_);
  }

 private:
  static std::string Pad(int indent) { return std::string(indent, ' '); }

  // True when at least one line was written.
  void WriteSection(const ProtoMessage& message, int indent) {
    const Descriptor& type = *message.GetDescriptor();
    const Reflection& reflection = *message.GetReflection();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (field.is_repeated()) {
        if (reflection.FieldSize(message, &field) > 0) WriteRepeated(message, field, indent);
        continue;
      }
      if (!reflection.HasField(message, &field)) continue;
      if (IsSection(field)) {
        const ProtoMessage& section = reflection.GetMessage(message, &field);
        if (section.ByteSizeLong() == 0) continue;
        out_ += Pad(indent) + field.name() + ":\n";
        WriteSection(section, indent + 2);
      } else {
        const std::string text = SettingText(message, field);
        out_ += Pad(indent) + field.name() + ": " +
                (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING ? YamlText(text) : text) +
                "\n";
      }
    }
  }

  void WriteRepeated(const ProtoMessage& message, const FieldDescriptor& field, int indent) {
    const Reflection& reflection = *message.GetReflection();
    if (!field.is_map() && !IsSection(field)) {
      const int size = reflection.FieldSize(message, &field);
      out_ += Pad(indent) + field.name() + ":";
      for (int k = 0; k < size; ++k) {
        const std::string text = YamlText(reflection.GetRepeatedString(message, &field, k));
        out_ += size == 1 ? " " + text : "\n" + Pad(indent + 2) + "- " + text;
      }
      out_ += "\n";
      return;
    }
    out_ += Pad(indent) + field.name() + ":\n";
    if (field.is_map()) {
      std::map<std::string, std::string> sorted;  // protobuf maps have no order
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        const ProtoMessage& pair = reflection.GetRepeatedMessage(message, &field, k);
        const Descriptor& type = *pair.GetDescriptor();
        sorted[SettingText(pair, *type.field(0))] = SettingText(pair, *type.field(1));
      }
      for (const auto& [key, value] : sorted) {
        out_ += Pad(indent + 2) + YamlText(key) + ": " + YamlText(value) + "\n";
      }
      return;
    }
    for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
      const size_t begin = out_.size();
      WriteSection(reflection.GetRepeatedMessage(message, &field, k), indent + 4);
      if (out_.size() == begin) {
        out_ += Pad(indent + 2) + "- {}\n";
      } else {
        out_[begin + indent + 2] = '-';
      }
    }
  }

  std::string out_;
};

void DescribeSection(const Descriptor& type, int indent, std::string* out);

void DescribeField(const FieldDescriptor& field, int indent, std::string* out) {
  const std::string pad(indent, ' ');
  if (field.is_map()) {
    *out += fmt::format("{}{}:  # mapping of text to text\n", pad, field.name());
    return;
  }
  if (IsSection(field)) {
    *out += fmt::format("{}{}:{}\n", pad, field.name(), field.is_repeated() ? "  # list of" : "");
    DescribeSection(*field.message_type(), indent + 2, out);
    return;
  }
  const v1::FieldRules& rules = RulesOf(field);
  std::string value = rules.default_value();
  if (rules.required()) value = "(required)";
  if (value.empty()) value = "(none)";
  std::string about = TypeText(field) + (field.is_repeated() ? " or list of texts" : "");
  if (const std::string range = RangeText(field); !range.empty()) about += ", " + range;
  if (!rules.help().empty()) about += ". " + rules.help();
  *out += fmt::format("{:<44} # {}\n", fmt::format("{}{}: {}", pad, field.name(), value), about);
}

void DescribeSection(const Descriptor& type, int indent, std::string* out) {
  for (int i = 0; i < type.field_count(); ++i) {
    if (indent == 0 && i > 0) *out += "\n";
    DescribeField(*type.field(i), indent, out);
  }
}

void DescribeParts(std::string_view title, std::span<const MethodPart> parts, std::string* out) {
  *out += fmt::format("\n# {}\n", title);
  for (const MethodPart& part : parts) *out += fmt::format("#   {:<26}{}\n", part.name, part.help);
}

}  // namespace

std::string JobSpecToYaml(const v1::JobSpec& spec) { return YamlWriter().Write(spec); }

std::string JobSchemaText() {
  std::string out =
      "# A job file: every key with its default, its type and range, and what it means.\n"
      "# Durations are written 250ms, 30s, 5m, 2h. Relative paths start at the job file's "
      "folder.\n\n";
  DescribeSection(*v1::JobSpec::descriptor(), 0, &out);
  out += "\n# algorithm.preset\n";
  for (const Preset& preset : Presets()) {
    out += fmt::format("#   {:<26}{}\n", preset.name, preset.help);
    std::string factors = fmt::format(
        "data.kind {}, advantage {}, loss {}, aggregation {}, pair_builder {}, correction {}",
        preset.data_kind == v1::DataSpec::PROMPTS       ? "prompts"
        : preset.data_kind == v1::DataSpec::COMPLETIONS ? "completions"
                                                        : "pairs",
        preset.advantage, preset.loss, preset.aggregation, preset.pair_builder, preset.correction);
    if (preset.whiten_advantages) factors += ", whiten_advantages";
    if (preset.kl_placement != v1::KlSpec::NONE) {
      factors += fmt::format(", kl {} {} in the {}", preset.kl_coefficient, preset.kl_estimator,
                             preset.kl_placement == v1::KlSpec::LOSS ? "loss" : "reward");
    }
    out += fmt::format("#   {:<26}{}\n", "", factors);
  }
  DescribeParts("algorithm.advantage", Advantages(), &out);
  DescribeParts("algorithm.loss", Losses(), &out);
  DescribeParts("algorithm.aggregation", Aggregations(), &out);
  DescribeParts("algorithm.pair_builder", PairBuilders(), &out);
  DescribeParts("algorithm.correction", Corrections(), &out);
  DescribeParts("algorithm.kl.estimator", KlEstimators(), &out);
  return out;
}

}  // namespace rollcall
