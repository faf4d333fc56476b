#include <utility>

#include "services/common/text/steps_json.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr std::string_view kSupported =
    "BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, "
    "Replace, Sequence, Strip, StripAccents";
constexpr size_t kMaxCharsmapBytes = 16 << 20;

Status ParseBert(const Json& value, const std::string& where, std::vector<NormalizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(
      value, where, {"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}));
  BertStep step;
  ROLLCALL_ASSIGN_OR_RETURN(step.clean_text, GetBool(value, where, "clean_text", true));
  ROLLCALL_ASSIGN_OR_RETURN(step.handle_chinese_chars,
                            GetBool(value, where, "handle_chinese_chars", true));
  ROLLCALL_ASSIGN_OR_RETURN(step.lowercase, GetBool(value, where, "lowercase", true));
  // Accents go with the case when nothing is said.
  ROLLCALL_ASSIGN_OR_RETURN(step.strip_accents,
                            GetBool(value, where, "strip_accents", step.lowercase));
  steps->emplace_back(step);
  return OkStatus();
}

Status ParseReplace(const Json& value, const std::string& where,
                    std::vector<NormalizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pattern", "content"}));
  ROLLCALL_ASSIGN_OR_RETURN(Pattern pattern, GetPattern(value, where));
  ROLLCALL_ASSIGN_OR_RETURN(const auto content, GetString(value, where, "content"));
  if (!content) return WrongField(where, "content is missing");
  steps->emplace_back(ReplaceStep{std::move(pattern), *content});
  return OkStatus();
}

Status ParsePrecompiled(const Json& value, const std::string& where,
                        std::vector<NormalizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "precompiled_charsmap"}));
  ROLLCALL_ASSIGN_OR_RETURN(const auto base64,
                            GetString(value, where, "precompiled_charsmap", kMaxCharsmapBytes));
  if (!base64) return WrongField(where, "precompiled_charsmap is missing");
  StatusOr<Charsmap> charsmap = Charsmap::Create(*base64);
  if (!charsmap.ok()) return Annotate(charsmap.status(), where);
  steps->emplace_back(std::make_shared<const Charsmap>(*std::move(charsmap)));
  return OkStatus();
}

}  // namespace

Status ParseNormalizer(const Json& value, const std::string& where,
                       std::vector<NormalizerStep>* steps) {
  if (value.is_null()) return OkStatus();
  if (steps->size() >= kMaxSteps) {
    return WrongField(where, "more than " + std::to_string(kMaxSteps) + " steps");
  }
  const std::string type = TypeOf(value);
  if (type == "Sequence") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "normalizers"}));
    ROLLCALL_ASSIGN_OR_RETURN(const Json* list, GetList(value, where, "normalizers"));
    for (size_t i = 0; i < list->size(); ++i) {
      ROLLCALL_RETURN_IF_ERROR(
          ParseNormalizer((*list)[i], where + ".normalizers[" + std::to_string(i) + "]", steps));
    }
    return OkStatus();
  }
  if (type == "BertNormalizer") return ParseBert(value, where, steps);
  if (type == "Replace") return ParseReplace(value, where, steps);
  if (type == "Precompiled") return ParsePrecompiled(value, where, steps);
  if (type == "Prepend") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "prepend"}));
    ROLLCALL_ASSIGN_OR_RETURN(const auto text, GetString(value, where, "prepend"));
    if (!text) return WrongField(where, "prepend is missing");
    steps->emplace_back(PrependStep{*text});
    return OkStatus();
  }
  if (type == "Strip") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "strip_left", "strip_right"}));
    StripStep step;
    ROLLCALL_ASSIGN_OR_RETURN(step.left, GetBool(value, where, "strip_left", true));
    ROLLCALL_ASSIGN_OR_RETURN(step.right, GetBool(value, where, "strip_right", true));
    steps->emplace_back(step);
    return OkStatus();
  }
  const std::pair<std::string_view, NormalizerStep> plain[] = {{"NFC", NormalizationForm::kNfc},
                                                               {"NFD", NormalizationForm::kNfd},
                                                               {"NFKC", NormalizationForm::kNfkc},
                                                               {"NFKD", NormalizationForm::kNfkd},
                                                               {"Lowercase", LowercaseStep{}},
                                                               {"StripAccents", StripAccentsStep{}},
                                                               {"Nmt", NmtStep{}},
                                                               {"ByteLevel", ByteAlphabetStep{}}};
  for (const auto& [name, step] : plain) {
    if (type != name) continue;
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type"}));
    steps->push_back(step);
    return OkStatus();
  }
  return NotSupported(where, value, kSupported);
}

}  // namespace rollcall
