#include <utility>

#include "services/common/text/steps_json.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr std::string_view kSupported =
    "BPEDecoder, ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, Strip, WordPiece";
constexpr int64_t kMaxStrip = 4096;

Status ParseMetaspace(const Json& value, const std::string& where,
                      std::vector<DecoderStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(value, where,
                {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"}));
  MetaspaceDecoder step;
  ROLLCALL_ASSIGN_OR_RETURN(step.replacement, GetCharacter(value, where, "replacement"));
  ROLLCALL_ASSIGN_OR_RETURN(const auto scheme, GetString(value, where, "prepend_scheme"));
  ROLLCALL_ASSIGN_OR_RETURN(const bool prefix_space,
                            GetBool(value, where, "add_prefix_space", true));
  step.keep_first = !prefix_space || scheme == "never";
  steps->emplace_back(step);
  return OkStatus();
}

Status ParseStrip(const Json& value, const std::string& where, std::vector<DecoderStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "content", "start", "stop"}));
  StripDecoder step;
  ROLLCALL_ASSIGN_OR_RETURN(step.content, GetCharacter(value, where, "content"));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t start, GetCount(value, where, "start", kMaxStrip));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t stop, GetCount(value, where, "stop", kMaxStrip));
  step.start = static_cast<size_t>(start);
  step.stop = static_cast<size_t>(stop);
  steps->emplace_back(step);
  return OkStatus();
}

Status ParseReplace(const Json& value, const std::string& where, std::vector<DecoderStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pattern", "content"}));
  ROLLCALL_ASSIGN_OR_RETURN(Pattern pattern, GetPattern(value, where));
  ROLLCALL_ASSIGN_OR_RETURN(const auto content, GetString(value, where, "content"));
  if (!content) return WrongField(where, "content is missing");
  steps->emplace_back(ReplaceDecoder{std::move(pattern), *content});
  return OkStatus();
}

}  // namespace

Status ParseDecoder(const Json& value, const std::string& where, std::vector<DecoderStep>* steps) {
  if (value.is_null()) return OkStatus();
  if (steps->size() >= kMaxSteps) {
    return WrongField(where, "more than " + std::to_string(kMaxSteps) + " steps");
  }
  const std::string type = TypeOf(value);
  if (type == "Sequence") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "decoders"}));
    ROLLCALL_ASSIGN_OR_RETURN(const Json* list, GetList(value, where, "decoders"));
    for (size_t i = 0; i < list->size(); ++i) {
      ROLLCALL_RETURN_IF_ERROR(
          ParseDecoder((*list)[i], where + ".decoders[" + std::to_string(i) + "]", steps));
    }
    return OkStatus();
  }
  if (type == "ByteLevel") {
    ROLLCALL_RETURN_IF_ERROR(
        CheckKeys(value, where, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    steps->emplace_back(ByteLevelDecoder{});
    return OkStatus();
  }
  if (type == "ByteFallback" || type == "Fuse") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type"}));
    if (type == "Fuse") {
      steps->emplace_back(FuseDecoder{});
    } else {
      steps->emplace_back(ByteFallbackDecoder{});
    }
    return OkStatus();
  }
  if (type == "BPEDecoder") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "suffix"}));
    ROLLCALL_ASSIGN_OR_RETURN(const auto suffix, GetString(value, where, "suffix"));
    steps->emplace_back(BpeDecoder{suffix.value_or("</w>")});
    return OkStatus();
  }
  if (type == "WordPiece") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "prefix", "cleanup"}));
    WordPieceDecoder step;
    ROLLCALL_ASSIGN_OR_RETURN(const auto prefix, GetString(value, where, "prefix"));
    ROLLCALL_ASSIGN_OR_RETURN(step.cleanup, GetBool(value, where, "cleanup", true));
    step.prefix = prefix.value_or("##");
    steps->emplace_back(std::move(step));
    return OkStatus();
  }
  if (type == "Metaspace") return ParseMetaspace(value, where, steps);
  if (type == "Strip") return ParseStrip(value, where, steps);
  if (type == "Replace") return ParseReplace(value, where, steps);
  return NotSupported(where, value, kSupported);
}

}  // namespace rollcall
